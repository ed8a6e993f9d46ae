"use strict";

const SILENCE = 4000; // milliseconds without an event until the page says so
const RETRY = 1000; // milliseconds until it asks again

const freshness = document.getElementById("freshness");
const pause = document.getElementById("pause");
let source = null;
let silence = 0;

// Makes one node like another and touches only what differs, so that focus, selection
// and a screen reader stay where they are.
function morph(node, wanted) {
  for (const { name, value } of wanted.attributes) {
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  for (const { name } of [...node.attributes]) {
    if (!wanted.hasAttribute(name)) node.removeAttribute(name);
  }
  morphChildren(node, wanted);
}

function morphChildren(node, wanted) {
  const old = [...node.childNodes];
  const now = [...wanted.childNodes];
  now.forEach((child, index) => {
    const before = old[index];
    if (!before) node.append(child);
    else if (before.nodeName !== child.nodeName) before.replaceWith(child);
    else if (child.nodeType === Node.ELEMENT_NODE) morph(before, child);
    else if (before.data !== child.data) before.data = child.data;
  });
  old.slice(now.length).forEach((child) => child.remove());
}

function say(text, stale = false) {
  if (freshness.textContent !== text) freshness.textContent = text;
  document.body.classList.toggle("stale", stale);
}

function time() {
  return new Date().toLocaleTimeString();
}

function paused() {
  return pause.getAttribute("aria-pressed") === "true";
}

function heard(event) {
  clearTimeout(silence);
  silence = setTimeout(lost, SILENCE);
  say("Live");
  // The server sends the parts that have changed, and has escaped what is in them.
  for (const [id, html] of Object.entries(JSON.parse(event.data))) {
    const template = document.createElement("template");
    template.innerHTML = html;
    morphChildren(document.getElementById(id), template.content);
  }
}

function close() {
  clearTimeout(silence);
  if (source) source.close();
  source = null;
}

// A browser connects again by itself, but not after an answer other than 200, and not
// while the worker at the other end hangs. Asked anew, a sibling answers.
function lost() {
  if (!document.body.classList.contains("stale")) {
    say("No answer since " + time() + "; trying again.", true);
  }
  close();
  setTimeout(open, RETRY);
}

function open() {
  if (source || document.hidden || paused()) return;
  const mine = (source = new EventSource("events"));
  silence = setTimeout(lost, SILENCE);
  mine.onmessage = heard;
  mine.onerror = () => {
    if (mine === source && mine.readyState === EventSource.CLOSED) lost();
  };
}

pause.hidden = false;
pause.addEventListener("click", () => {
  pause.setAttribute("aria-pressed", String(!paused()));
  if (paused()) {
    close();
    say("Paused at " + time());
  } else open();
});
document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
open();
