// Light or dark: as the system has it, until the button says otherwise; that is remembered.

import { byId } from "./dom.js";

const system = matchMedia("(prefers-color-scheme: dark)");

/** Follow the system and the button; `changed` is called whenever the colours are others. */
export function follow(changed) {
  const apply = () => {
    const dark = localStorage.getItem("theme") ? localStorage.getItem("theme") === "dark" : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    byId("theme").textContent = dark ? "Light" : "Dark";
    changed();
  };
  byId("theme").addEventListener("click", () => {
    localStorage.setItem("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    apply();
  });
  system.addEventListener("change", apply);
  apply();
}
