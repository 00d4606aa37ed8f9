// What a page does beyond showing: be light or dark, copy code, say where the reader is. All can be read without it.

// Light or dark: as the system has it, until the reader chooses.
const root = document.documentElement;
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => root.style.colorScheme === "dark" || (!root.style.colorScheme && systemIsDark.matches);

const scheme = button("", () => {
  root.style.colorScheme = isDark() ? "light" : "dark";
  try {
    localStorage.setItem("color-scheme", root.style.colorScheme);
  } catch {} // where nothing may be stored, only this page changes
  nameScheme();
});
scheme.className = "scheme";

function nameScheme() {
  scheme.textContent = isDark() ? "Light" : "Dark";
}
systemIsDark.addEventListener("change", nameScheme);
nameScheme();
document.querySelector("header").append(scheme);

// Code that can be copied. Where the clipboard is out of reach, the code is selected instead.
const said = document.createElement("p");
said.className = "said";
said.setAttribute("role", "status");
document.querySelector("main").append(said);

for (const block of document.querySelectorAll(".code")) {
  const code = block.querySelector("pre");
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(code.innerText.trimEnd() + "\n");
      copy.textContent = said.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      copy.textContent = said.textContent = "Selected: now press Ctrl+C";
    }
    setTimeout(() => (copy.textContent = "Copy", said.textContent = ""), 2000);
  });
  block.append(copy);
}

// What is wider than the page can be scrolled with the keyboard, too.
const widths = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
for (const block of document.querySelectorAll("pre, .table")) widths.observe(block);

// The contents: folded on a small screen; on a large one, the section at hand is marked.
const contents = document.querySelector(".contents");
if (contents) {
  const narrow = matchMedia("(width < 70rem)");
  const fold = () => (contents.firstElementChild.open = !narrow.matches);
  narrow.addEventListener("change", fold);
  fold();

  const links = [...contents.querySelectorAll("a")];
  const headings = links.map((link) => document.getElementById(decodeURIComponent(link.hash.slice(1))));
  const mark = () => {
    const passed = headings.filter((heading) => heading.getBoundingClientRect().top < 120).length;
    links.forEach((link, i) => link.toggleAttribute("aria-current", i === Math.max(passed - 1, 0)));
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
}

// A click elsewhere closes the list of pages, and so does Escape.
const menu = document.querySelector(".menu");
addEventListener("click", (event) => menu.contains(event.target) || (menu.open = false));
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !menu.open) return;
  menu.open = false;
  menu.firstElementChild.focus();
});

function button(text, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = text;
  element.addEventListener("click", action);
  return element;
}
