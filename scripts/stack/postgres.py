"""Postgres for one machine."""

import shutil
import signal
import subprocess
from pathlib import Path

from scripts.stack import supervisor
from scripts.stack.data import DataDir
from scripts.stack.errors import StackError
from scripts.stack.programs import CLEAN_ENV, POSTGRES, end_orphan
from scripts.stack.supervisor import Spec
from scripts.stack.user import give, identity, put, server_user

ROLE, DATABASE = "app", "stillmotion"
# The superuser has no password and no line here, so nobody can sign in as it.
ACCESS = f"""\
# One role, by password, from this machine.
host all {ROLE} 127.0.0.1/32 scram-sha-256
"""
# May create databases, because the tests do. No superuser, so SQL reaches no file and no program.
CREATE_ROLE = f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{{password}}'"
# In earlier clusters the role is the superuser that owns the catalogues. Postgres refuses to demote
# it, and nobody may rename themselves: so a helper renames it, and a new role takes its place.
RENAME_OLD = f"""
DO $$ BEGIN
    IF pg_get_userbyid(10) = '{ROLE}' THEN
        CREATE ROLE renamer SUPERUSER;
        SET SESSION AUTHORIZATION renamer;
        ALTER ROLE {ROLE} RENAME TO postgres;
    END IF;
END $$
"""
TAKE_PLACE = f"""
DO $$ DECLARE change text; BEGIN
    DROP ROLE IF EXISTS renamer;
    IF to_regrole('{ROLE}') IS NULL THEN
        {CREATE_ROLE};
    END IF;
    ALTER DATABASE {DATABASE} OWNER TO {ROLE};
    FOR change IN
        SELECT format('ALTER TABLE %s OWNER TO {ROLE}', oid::regclass) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
        UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO {ROLE}', oid::regprocedure) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
        UNION ALL
        SELECT format('ALTER TYPE %s OWNER TO {ROLE}', oid::regtype) FROM pg_type
        WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')
    LOOP
        EXECUTE change;
    END LOOP;
END $$
"""


SHARED_BUFFERS = "64MB"  # a demo's database has few pages


class Postgres:
    """One Postgres in `<data>/postgres`: database `stillmotion`, owned by the role `app`.

    Listens on loopback TCP only and requires the password.
    """

    name = "postgres"

    def __init__(self, data: DataDir, port: int, shared_buffers: str = SHARED_BUFFERS):
        self._binary = POSTGRES.find(data)
        self._cluster = data.path / "postgres"
        self._password = data.secret("postgres_password")
        self.url = f"postgresql://{ROLE}:{self._password}@127.0.0.1:{port}/{DATABASE}"
        if not self._cluster.exists():
            # Syncing takes 2 of the 3 s; a temporary cluster can do without.
            sync = ["--no-sync"] if data.temporary else []
            self._create(self._cluster.with_name("postgres.new"), sync)
        end_orphan(self._cluster / "postmaster.pid", signal.SIGINT)
        access = self._cluster / "pg_hba.conf"
        if access.read_text() != ACCESS:
            self._demote_role()
            put(access, ACCESS, server_user())  # last: it says that all is done
        self.spec = Spec(
            name=self.name,
            argv=[
                *(self._binary, "-D", self._cluster, "-p", str(port), "-k", ""),
                *("-c", "listen_addresses=127.0.0.1"),
                *("-c", "max_connections=100"),
                *("-c", "superuser_reserved_connections=0"),  # nobody can sign in as one
                *("-c", f"shared_buffers={shared_buffers}"),
                *("-c", "fsync=on"),
            ],
            env=CLEAN_ENV,
            cwd=Path("/"),
            stage=supervisor.POSTGRES,
            stop_signal=signal.SIGINT,  # SIGTERM would wait for every client to disconnect
            user=server_user(),
        )

    def _create(self, draft: Path, options: list[str]) -> None:
        """Create a cluster in `draft`, and give it its name once it is complete."""
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir()
        give(draft, server_user())
        self._run(
            *(self._binary.with_name("initdb"), "-D", draft, "-U", "postgres"),
            *("--auth=reject", "--no-instructions"),
            # Postgres's own C.UTF-8 has the same order and the same upper() on every system.
            *("-E", "UTF8", "--no-locale", "--locale-provider=builtin"),
            "--builtin-locale=C.UTF-8",
            *options,
        )
        self._single(
            draft,
            "postgres",
            CREATE_ROLE.format(password=self._password),
            f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
        )
        put(draft / "pg_hba.conf", ACCESS, server_user())
        draft.rename(self._cluster)

    def _demote_role(self) -> None:
        """Make the role of an earlier release's cluster an ordinary one. May be repeated."""
        self._single(self._cluster, DATABASE, RENAME_OLD)
        script = TAKE_PLACE.replace("{password}", self._password)
        self._single(self._cluster, DATABASE, script)

    def _single(self, cluster: Path, database: str, *statements: str) -> None:
        """Run statements as the superuser on a cluster whose server is down."""
        self._run(
            # -j: a statement ends at an empty line. Its text, with a password, is never logged.
            *(self._binary, "--single", "-j", "-D", cluster),
            *("-c", "log_min_error_statement=panic", database),
            script="".join(f"{statement.strip()};\n\n" for statement in statements),
        )

    def _run(self, *argv: str | Path, script: str = "") -> None:
        done = subprocess.run(
            argv,
            input=script,
            capture_output=True,
            text=True,
            env=CLEAN_ENV,
            cwd="/",
            **identity(server_user()),
        )
        if done.returncode != 0 or "ERROR:" in done.stderr:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
            line = next((line for line in lines if "ERROR:" in line), lines[-1])
            raise StackError(f"{Path(argv[0]).name} failed: {line}")

    def ready(self, pid: int) -> bool:
        """Whether the server with this pid accepts queries, by its pid file as in pg_ctl."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"
