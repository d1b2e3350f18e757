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

  // The enlarged one, by its place among those found.
  let large = 0;
  const enlarge = (at) => {
    large = Math.min(Math.max(at, 0), found.length - 1);
    const sample = found[large];
    const stage = $("large").querySelector(".stage");
    stage.replaceChildren();
    const image = picture(stage, sample);
    stage.style.setProperty("--shape", image.width / image.height);
    $("large").querySelector(".caption").replaceChildren(marked(sample.text, ""), facts(sample));
    for (const button of $("large").querySelectorAll("[data-large]")) {
      button.disabled = button.dataset.large === (large === 0 ? "-1" : large === found.length - 1 ? "1" : "") || found.length === 1;
    }
    $("large").querySelector(".which").textContent = `${large + 1} of ${found.length}`;
    if (!$("large").open) $("large").showModal();
  };
  $("large").addEventListener("click", (event) => {
    const step = event.target.dataset.large;
    if (step) enlarge(large + Number(step));
    else if (!event.target.closest(".caption")) $("large").close();
  });
  // Back on the page that shows what was looked at last.
  $("large").addEventListener("close", () => {
    const held = Math.floor(large / PAGE);
    if (held !== page) { page = held; draw(); }
    $("cards").children[large % PAGE]?.querySelector("button").focus();
  });

  const card = (sample, at, word) => {
    const figure = make("figure", "card");
    const button = make("button", "photo");
    button.type = "button";
    button.title = "enlarge";
    const image = picture(button, sample);
    button.style.aspectRatio = `${image.width} / ${image.height}`;
    if (sample.kind === "zero") button.append(make("span", "none-meant", "nothing is meant"));
    button.addEventListener("click", () => enlarge(at));
    const caption = make("figcaption");
    caption.append(marked(sample.text, word), facts(sample));
    figure.append(button, caption);
    return figure;
  };

  const draw = () => {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const word = $("words").value.trim().toLowerCase();
    $("cards").replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map((s, i) => card(s, page * PAGE + i, word)));
    $("none").hidden = found.length > 0;
    for (const nav of document.querySelectorAll(".pages")) {
      nav.querySelector(".where").textContent = `page ${page + 1} of ${pages}, ${found.length} expressions`;
      nav.querySelector("[data-step='-1']").disabled = page === 0;
      nav.querySelector("[data-step='1']").disabled = page === pages - 1;
    }
    keep();
  };

  // Filters and page stand in the address: they survive a reload, and a link shows what its sender saw.
  const keep = () => {
    const kinds = [...document.querySelectorAll("[name=kind]:checked")].map((box) => box.value);
    const all = { words: $("words").value.trim(), split: $("split").value, source: $("source").value,
      kinds: kinds.length < 3 ? kinds.join(" ") || "none" : "", masks: $("masks").checked ? "" : "off", page: page ? page + 1 : "" };
    const said = new URLSearchParams(Object.entries(all).filter(([, value]) => value !== ""));
    try { history.replaceState(null, "", `#${said}`); } catch (e) { /* some browsers limit how often */ }
  };
  const restore = () => {
    const said = new URLSearchParams(location.hash.slice(1));
    $("words").value = said.get("words") || "";
    for (const id of ["split", "source"]) {
      const known = [...$(id).options].some((option) => option.value === said.get(id));
      $(id).value = known ? said.get(id) : "";
    }
    const kinds = said.get("kinds");
    for (const box of document.querySelectorAll("[name=kind]")) box.checked = !kinds || kinds.split(" ").includes(box.value);
    $("masks").checked = said.get("masks") !== "off";
    masks();
    filter(Number(said.get("page") || 1) - 1);
  };
  const masks = () => document.body.classList.toggle("nomasks", !$("masks").checked);

  const filter = (at = 0) => {
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
    page = Number.isInteger(at) ? at : 0;
    draw();
  };

  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("input", (event) => {
    if (event.target === $("masks")) { masks(); keep(); } else filter();
  });
  for (const button of document.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => {
      page += Number(button.dataset.step);
      draw();
      scrollTo(0, 0);
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("[type=search], select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step && $("large").open) enlarge(large + step);
    else if (step) { page += step; draw(); }
    if (event.key === "m") { $("masks").checked = !$("masks").checked; masks(); keep(); }
    if (event.key === "/" && !$("large").open) { event.preventDefault(); $("words").focus(); }
  });
  addEventListener("hashchange", restore);
  restore();
})();
