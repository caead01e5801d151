// What the model makes of a prompt, as one line.

const IGNORED = 8; // words shown; a story has hundreds

/** `found` is a job's `prompt_understood`. */
export function understood(found) {
  const { excluded, unsupported, ignored, ambient } = found;
  if (ambient && ignored.length && !excluded.length && !unsupported.length) return "no motion words known: ambient";
  const motion = ambient ? "ambient" : named(found);
  if (!ignored.length) return motion;
  const more = ignored.length > IGNORED ? ", …" : "";
  return `${motion}; ignored: ${ignored.slice(0, IGNORED).join(", ")}${more}`;
}

function named({ camera, object, strength, target }) {
  const thing = object && target ? `${object} of the ${target}` : object;
  const moving = [thing, camera].filter((motion) => motion && motion !== "still");
  if (!moving.length) return "still";
  return [...moving, ...(strength === "normal" ? [] : [strength])].join(", ");
}
