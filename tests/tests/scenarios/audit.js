// Looks a page over as WCAG 2.2 AA would, and gives a list of what is wrong. No library: colours, names, sizes, structure.
const wrong = [];
const say = (what, node) => wrong.push(what + (node ? ": " + node.outerHTML.slice(0, 120) : ""));
const shown = (node) => node.getClientRects().length > 0 && getComputedStyle(node).visibility !== "hidden";

const parse = (text) => {
  const m = text.match(/[\d.]+/g).map(Number);
  return m.length < 4 ? [...m.slice(0, 3), 1] : m;
};
const luminance = ([r, g, b]) => {
  const f = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
};
const behind = (node) => {
  for (let n = node; n; n = n.parentElement) {
    const colour = parse(getComputedStyle(n).backgroundColor);
    if (colour[3] === 1) return colour;
  }
  return [255, 255, 255, 1];
};
const ratio = (a, b) => {
  const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
};

if (!document.documentElement.lang) say("no language");
if (!document.title.trim()) say("no title");
if (document.querySelectorAll("h1").length !== 1) say("not one h1");
if (document.querySelectorAll("main").length !== 1) say("not one main");
if (document.querySelectorAll("script").length) say("a script");
if (document.querySelectorAll("[style],[onclick]").length) say("an inline style or handler");
if (document.scrollingElement.scrollWidth > innerWidth) say("wider than the screen, " + document.scrollingElement.scrollWidth);

const ids = [...document.querySelectorAll("[id]")].map((n) => n.id);
if (new Set(ids).size !== ids.length) say("an id twice");
for (const node of document.querySelectorAll("[aria-describedby],[aria-labelledby],label[for]")) {
  const names = ["aria-describedby", "aria-labelledby", "for"].map((a) => node.getAttribute(a) || "").join(" ");
  for (const id of names.split(" ").filter(Boolean)) if (!document.getElementById(id)) say("points to no " + id, node);
}
for (const node of document.querySelectorAll("input:not([type=hidden]),select,textarea")) {
  if (!node.labels?.length && !node.getAttribute("aria-label")) say("a field without a label", node);
}
for (const node of document.querySelectorAll("a,button,summary")) {
  if (!node.textContent.trim() && !node.getAttribute("aria-label")) say("a control without a name", node);
  if (node.tagName === "A" && !node.getAttribute("href")) say("a link to nowhere", node);
}
for (const node of document.querySelectorAll("svg,img")) {
  if (node.getAttribute("aria-hidden") !== "true" && !node.getAttribute("aria-label") && !node.alt) say("a picture without a name", node);
}
const levels = [...document.querySelectorAll("h1,h2,h3,h4")].map((n) => Number(n.tagName[1]));
levels.forEach((level, i) => { if (i && level > levels[i - 1] + 1) say("a heading level left out"); });

const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let t = texts.nextNode(); t; t = texts.nextNode()) {
  const node = t.parentElement;
  if (!t.data.trim() || !shown(node) || node.closest("svg,style")) continue;
  const style = getComputedStyle(node);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  const found = ratio(parse(style.color), behind(node));
  if (found < (large ? 3 : 4.5)) say("contrast " + found.toFixed(2), node);
  if (size < 12) say("text of " + size + " px", node);
}
// What is not text must stand out by 3 to 1: the signs of verdicts, the edges of fields, the faces or edges of buttons.
for (const node of document.querySelectorAll(".sign .shape,.sign .ring")) {
  const style = getComputedStyle(node);
  const colour = style.fill === "none" ? style.stroke : style.fill;
  if (ratio(parse(colour), behind(node.closest("section"))) < 3) say("a sign too pale", node);
}
for (const node of document.querySelectorAll("input[type=text],button")) {
  if (!shown(node)) continue;
  const style = getComputedStyle(node);
  const ground = behind(node.parentElement);
  const face = parse(style.backgroundColor);
  const edge = style.borderTopWidth === "0px" ? 0 : ratio(parse(style.borderTopColor), ground);
  if (Math.max(edge, face[3] === 1 ? ratio(face, ground) : 0) < 3) say("an edge too pale", node);
}
for (const node of document.querySelectorAll("button,input[type=text],summary,a.switch,a.brand")) {
  if (!shown(node)) continue;
  const box = node.getBoundingClientRect();
  const least = node.matches("button,input") ? 44 : 24;
  if (box.height < least || box.width < 24) say("a target of " + box.width + " by " + box.height, node);
}

// Bytes on the way: the page and everything it fetched, and where from.
const entries = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
const bytes = entries.reduce((sum, e) => sum + e.transferSize, 0);
for (const e of entries) if (new URL(e.name).origin !== location.origin) say("fetched from elsewhere, " + e.name);
return { wrong, bytes };
