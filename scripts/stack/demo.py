"""`scripts/demo`: start the whole service, turn a picture into a clip, stop everything.

Exit status: 0 success; 2 wrong arguments, or the file is not a picture; 69 the service did not
start; 75 another stack is using the data directory; 130 stopped by Ctrl-C; otherwise that of
`stillmotion animate`.
"""

import argparse
import itertools
import os
import signal
import sys
import time
from pathlib import Path

from app.pictures.normaliser import Normaliser
from scripts.stack.data import ROOT, DataDir, choose_directory
from scripts.stack.errors import DirectoryInUse, StackError
from scripts.stack.sample import write_sample
from scripts.stack.stack import PROCESSES, SECOND_BROKER, Stack
from stillmotion.errors import StillmotionError

EX_USAGE, EX_UNAVAILABLE, EX_TEMPFAIL, EX_INTERRUPTED = 2, 69, 75, 130
SAMPLE = ROOT / "scripts/assets/cat.jpg"
RENDER_S = 600.0
USAGE = "scripts/demo [IMAGE] [PROMPT] [--serve] [--valkeys] [--data DIR] [-o FILE] [--sample FILE]"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        usage=USAGE,
        description="Start the whole service, turn a picture into a clip, stop everything.",
    )
    parser.add_argument("image", nargs="?", type=Path, help="a picture (default: a cat)")
    parser.add_argument("prompt", nargs="?", default="", help="what should move, and how")
    parser.add_argument(
        "--serve", action="store_true", help="keep the service running until Ctrl-C"
    )
    parser.add_argument(
        "--valkeys", action="store_true", help="give each region a Valkey of its own"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="where the service keeps data (default: .stillmotion)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the clip (default: named after IMAGE)"
    )
    parser.add_argument(
        "--sample",
        type=Path,
        metavar="FILE.webp",
        help="also write an animated WebP of the picture and a looping clip side by side",
    )
    return parser.parse_args(argv)


def check_picture(path: Path) -> str:
    """The problem with a picture, or "". Checked before the service starts."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}."
    try:
        with Normaliser() as normaliser:
            normaliser.normalise(data)
    except StillmotionError as error:
        return f"{path}: {error.detail}"
    return ""


def check_output(path: Path | None) -> str:
    """The problem with an output path, or ""."""
    if path is None:
        return ""
    if path.is_dir():
        return f"{path} is a directory, not a file."
    folder = path.absolute().parent
    return "" if os.access(folder, os.W_OK) else f"The directory {folder} cannot be written."


def choose_output(image: Path, data: DataDir) -> Path:
    """An unused file name based on the picture's, in the current directory if that is writable."""
    folder = Path.cwd() if os.access(Path.cwd(), os.W_OK) else data.folder("clips")
    names = itertools.chain([image.stem], (f"{image.stem}-{n}" for n in itertools.count(2)))
    return next(path for name in names if not (path := folder / f"{name}.mp4").exists())


def animate(stack: Stack, image: Path, prompt: str, output: Path, *options: str) -> int:
    """Run `stillmotion animate` and print the clip's path. Progress goes to our stderr."""
    code, printed = stack.command(
        *("animate", str(image.resolve()), prompt, *options),
        *("--server", stack.url, "-o", str(output.resolve())),
        env={"STILLMOTION_API_KEY": stack.api_key()},
        stderr=sys.stderr.fileno(),
        timeout_s=RENDER_S,
    )
    print(printed, end="", flush=True)
    return code


def describe(stack: Stack) -> str:
    """How to use the running service: addresses, API key and login."""
    user, password = stack.flower_login
    receiver = stack.outbound_allow.partition(",")[0]
    return f"""
    Studio   {stack.url}/ (sign in with the API key)
    On call  {stack.url}/ops
    API      {stack.url}/v1
    API key  {stack.api_key()}
    Webhooks {f"may go to http://{receiver}/" if receiver else "need https"} (OUTBOUND_ALLOW)
    Flower   {" and ".join(stack.flower_urls)} (user {user}, password {password})
    Data     {stack.data.path} (logs in {stack.data.logs})

    export STILLMOTION_SERVER={stack.url}
    export STILLMOTION_API_KEY={stack.api_key()}

With these variables set, every example on {stack.url}/help works unchanged.

Ctrl-C stops everything.
"""


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def run(arguments: argparse.Namespace) -> int:
    image = arguments.image or SAMPLE
    problem = (
        check_picture(image) or check_output(arguments.output) or check_output(arguments.sample)
    )
    if problem:
        say(problem)
        return EX_USAGE
    directory, notice = choose_directory(os.environ, arguments.data)
    if notice:
        say(notice)
    processes = PROCESSES + SECOND_BROKER if arguments.valkeys else PROCESSES
    stack = Stack(DataDir(directory), processes=processes, valkeys=arguments.valkeys, say=say)
    started = time.monotonic()
    say("Starting Postgres, Valkey, the API, a dispatcher, Flower and two regions of workers ...")
    try:
        stack.open()
        say(f"Ready after {time.monotonic() - started:.1f} s.")
        code = 0
        if arguments.image or arguments.sample or not arguments.serve:
            output = arguments.output or choose_output(image, stack.data)
            options = ("--loop",) if arguments.sample else ()  # the WebP plays in a loop
            code = animate(stack, image, arguments.prompt, output, *options)
            if arguments.sample and code == 0:
                write_sample(output, arguments.sample)
        if arguments.serve:
            print(describe(stack), flush=True)
            while True:
                signal.pause()
        return code
    finally:
        # Ignore a second Ctrl-C: it would leave the rest of an orderly stop to the reaper.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stack.close()


def main() -> int:
    arguments = parse(sys.argv[1:])
    # SIGINT, too: shells start background jobs with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        return run(arguments)
    except KeyboardInterrupt:
        say("Stopped.")
        return EX_INTERRUPTED
    except DirectoryInUse as error:
        say(str(error))
        return EX_TEMPFAIL
    except StackError as error:
        say(str(error))
        return EX_UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main())
