// Signing in and out, for both pages.

import { call, Lost, SESSION_ENDED } from "./api.js";
import { reached } from "./connection.js";
import { $ } from "./dom.js";

/** Show the sign-in or, with a key that has `scope`, the page: `open(key)` once per sign-in. */
export async function start(scope, page, open) {
  let ended = false; // a session that was open here

  const enter = (key) => {
    $("who").hidden = false;
    $("operations").hidden = !key.scopes.includes("admin");
    $("key-name").textContent = key.name;
    $("key-name").title = `Signed in with the key “${key.name}”`;
    if (!key.scopes.includes(scope)) return refuse(`The key “${key.name}” lacks the scope “${scope}”.`);
    $("sign-in").hidden = true;
    page.hidden = false;
    open(key);
  };

  const refuse = (text) => {
    page.hidden = true;
    $("sign-in").hidden = false;
    $("sign-in-error").textContent = text;
  };

  $("sign-in-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const field = $("api-key");
    const button = event.target.querySelector("button");
    $("sign-in-error").textContent = "";
    field.removeAttribute("aria-invalid");
    if (!field.value.trim()) return fault(field, "Enter an API key; it begins with sm_.");
    button.disabled = true;
    try {
      const { body } = await call("POST", "/v1/session", { json: { api_key: field.value } });
      if (ended) return location.reload(); // the page may show another key's jobs
      field.value = "";
      enter(body.key);
      if (!page.hidden) $("main").focus();
    } catch (error) {
      fault(field, error.message);
    } finally {
      button.disabled = false;
    }
  });

  $("sign-out").addEventListener("click", async () => {
    await call("DELETE", "/v1/session").catch(() => {});
    location.reload();
  });

  window.addEventListener(SESSION_ENDED, () => {
    ended = true;
    $("who").hidden = $("operations").hidden = true;
    refuse("The session has ended; sign in again.");
  });

  const key = await whoIsIt();
  if (key) return enter(key);
  $("sign-in").hidden = false;
  $("api-key").focus();
}

async function whoIsIt() {
  for (;;) {
    try {
      return (await call("GET", "/v1/session")).body.key;
    } catch (error) {
      if (!(error instanceof Lost)) return null;
      await reached();
    }
  }
}

function fault(field, text) {
  field.setAttribute("aria-invalid", "true");
  $("sign-in-error").textContent = text;
  field.focus();
}
