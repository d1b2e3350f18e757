"use strict";
(() => {
  const PAGE = 24;
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const KINDS = { zero: "no target", one: "one target", many: "targets" };
  let page = 0;
  let found = data.samples;

  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  const options = (select, key) => {
    const counts = new Map();
    for (const s of data.samples) if (s[key] !== undefined) counts.set(s[key], (counts.get(s[key]) || 0) + 1);
    for (const [name, count] of [...counts].sort()) {
      const option = make("option", "", `${name} (${count})`);
      option.value = name;
      select.append(option);
    }
    return counts.size;
  };
  options($("split"), "split");
  if (options($("source"), "source") < 2) $("source-label").hidden = true;
  $("source-label").style.display = $("source-label").hidden ? "none" : "";

  // Words are marked by text nodes, never by markup of a sentence.
  const marked = (text, word) => {
    const node = make("q");
    const at = word ? text.toLowerCase().indexOf(word) : -1;
    if (at < 0 || text.toLowerCase().length !== text.length) {
      node.textContent = text;
    } else {
      node.append(text.slice(0, at), make("mark", "", text.slice(at, at + word.length)), text.slice(at + word.length));
    }
    return node;
  };

  const picture = (holder, sample) => {
    const image = data.images[sample.image];
    const photo = make("img");
    photo.src = image.src;
    photo.alt = image.name;
    holder.append(photo);
    if (sample.mask !== undefined) {
      const mask = make("img", "mask");
      mask.src = data.masks[sample.mask];
      mask.alt = "what is meant";
      holder.append(mask);
    }
    return image;
  };

  const facts = (sample) => {
    const image = data.images[sample.image];
    const line = make("div", "facts");
    line.append(make("i", `dot ${sample.kind}`));
    const targets = sample.kind === "many" ? `${sample.targets} ${KINDS.many}` : KINDS[sample.kind];
    line.append(make("span", "", targets));
    if (sample.kind !== "zero") line.append(make("span", "", `${sample.share < 0.1 ? "< 0.1" : sample.share.toFixed(1)} %`));
    line.append(make("span", "", sample.split));
    if (sample.source !== undefined && sample.source !== sample.kind) line.append(make("span", "", `source ${sample.source}`));
    line.append(make("span", "", `ref ${sample.reference} sent ${sample.sentence}`));
    line.append(make("span", "source", image.name));
    return line;
  };

  const enlarge = (sample) => {
    const stage = $("large").querySelector(".stage");
    stage.replaceChildren();
    const image = picture(stage, sample);
    stage.style.setProperty("--shape", image.width / image.height);
    $("large").querySelector(".caption").replaceChildren(marked(sample.text, ""), facts(sample));
    $("large").showModal();
  };
  $("large").addEventListener("click", () => $("large").close());

  const card = (sample, word) => {
    const figure = make("figure", "card");
    const button = make("button", "photo");
    button.type = "button";
    button.title = "enlarge";
    const image = picture(button, sample);
    button.style.aspectRatio = `${image.width} / ${image.height}`;
    if (sample.kind === "zero") button.append(make("span", "none-meant", "nothing is meant"));
    button.addEventListener("click", () => enlarge(sample));
    const caption = make("figcaption");
    caption.append(marked(sample.text, word), facts(sample));
    figure.append(button, caption);
    return figure;
  };

  const draw = () => {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const word = $("words").value.trim().toLowerCase();
    $("cards").replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map((s) => card(s, word)));
    $("none").hidden = found.length > 0;
    for (const nav of document.querySelectorAll(".pages")) {
      nav.querySelector(".where").textContent = `page ${page + 1} of ${pages}, ${found.length} expressions`;
      nav.querySelector("[data-step='-1']").disabled = page === 0;
      nav.querySelector("[data-step='1']").disabled = page === pages - 1;
    }
  };

  const filter = () => {
    const word = $("words").value.trim().toLowerCase();
    const kinds = new Set([...document.querySelectorAll("[name=kind]:checked")].map((box) => box.value));
    const split = $("split").value;
    const source = $("source").value;
    const rest = data.samples.filter((s) => {
      const image = data.images[s.image];
      const ids = [s.reference, s.sentence, image.id].map(String);
      return (!split || s.split === split)
        && (!source || s.source === source)
        && (!word || s.text.toLowerCase().includes(word) || ids.includes(word) || image.name.toLowerCase().includes(word));
    });
    for (const count of document.querySelectorAll(".count")) {
      count.textContent = rest.filter((s) => s.kind === count.dataset.kind).length;
    }
    found = rest.filter((s) => kinds.has(s.kind));
    page = 0;
    draw();
  };

  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("input", (event) => {
    if (event.target === $("masks")) document.body.classList.toggle("nomasks", !$("masks").checked);
    else filter();
  });
  for (const button of document.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => {
      page += Number(button.dataset.step);
      draw();
      scrollTo(0, 0);
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || $("large").open) return;
    if (event.key === "ArrowRight") { page += 1; draw(); }
    if (event.key === "ArrowLeft") { page -= 1; draw(); }
  });
  filter();
})();
