// Text of others, as text alone: what cannot be seen is spelt out, what is long is folded.
const FOLDED = 4000;
// Bidirectional controls, zero width, other controls but tab and newline, lone surrogates.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|\udb40[\udc00-\udc7f]/g;

function spelt(sign) {
  const mark = document.createElement("span");
  mark.className = "mark";
  mark.textContent = "U+" + sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return mark;
}

function appendText(element, text) {
  let end = 0;
  for (const found of text.matchAll(UNSEEN)) {
    // In Persian and many emoji these two join letters; alone they hide nothing.
    if (found[0] === "\u200d" || found[0] === "\u200c") continue;
    element.append(text.slice(end, found.index), spelt(found[0]));
    end = found.index + found[0].length;
  }
  element.append(text.slice(end));
}

function showText(element, text) {
  element.replaceChildren();
  element.scrollTop = 0;
  if (text.length <= FOLDED) return appendText(element, text);
  appendText(element, text.slice(0, FOLDED));
  const more = document.createElement("button");
  more.type = "button";
  more.className = "more";
  more.textContent = "Show the other " + (text.length - FOLDED).toLocaleString("en") + " characters";
  more.addEventListener("click", () => { more.remove(); appendText(element, text.slice(FOLDED)); });
  element.append(" … ", more);
}
