// One dialog for all questions.

import { $ } from "./dom.js";

/** Whether the user agrees. */
export async function confirm(title, text, yes, no = "Keep it") {
  $("dialog-link").hidden = true;
  $("dialog-no").hidden = false;
  $("dialog-no").textContent = no;
  return (await open(title, text, yes)) === "yes";
}

/** Show a link to copy by hand, where the browser does not let a page do it. */
export async function showLink(title, text, link) {
  $("dialog-link").hidden = false;
  $("dialog-link").value = link;
  $("dialog-no").hidden = true;
  const answer = open(title, text, "Done");
  $("dialog-link").select();
  await answer;
}

function open(title, text, yes) {
  $("dialog-title").textContent = title;
  $("dialog-text").textContent = text;
  $("dialog-yes").textContent = yes;
  const dialog = $("dialog");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue), { once: true }));
}
