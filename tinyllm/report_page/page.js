// Values on hover and zoom for the charts that the page already shows, and the light or dark theme.
// The page is complete without this script. axes.py draws the same for a page without it.
"use strict";

const SIDE = 1000;
const content = JSON.parse(document.getElementById("content").textContent);
const charts = Object.values(content.charts).flat().map((chart) => {
  const figure = document.getElementById(chart.id);
  return { ...chart, full: { x: chart.x, y: chart.y }, area: figure.querySelector(".area") };
});

// ----- Axes

function place(value, axis) {
  const on = axis.scale === "log2" ? Math.log2 : (v) => v;
  return (on(value) - on(axis.low)) / (on(axis.high) - on(axis.low));
}

function valueAt(share, axis) {
  if (axis.scale === "log2") return axis.low * (axis.high / axis.low) ** share;
  return axis.low + share * (axis.high - axis.low);
}

function text(value, form, step) {
  const fixed = (v, digits) =>
    v.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  if (form === "integer") return fixed(value, 0);
  if (form === "percent") return `${fixed(100 * value, step === undefined ? 1 : 0)}%`;
  if (value === 0) return "0";
  if (step === undefined) return Math.abs(value) < 1e4 ? `${+value.toPrecision(4)}` : fixed(value, 0);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return decimals <= 4 ? fixed(value, decimals) : value.toExponential(1);
}

function ticks(axis) {
  const values = [];
  let step;
  if (axis.scale === "log2") {
    const first = Math.ceil(Math.log2(axis.low)), last = Math.floor(Math.log2(axis.high) + 1e-9);
    const stride = Math.ceil((last - first + 1) / 8);
    for (let power = first; power <= last; power += stride) values.push(2 ** power);
  } else {
    const size = (axis.high - axis.low) / 5, power = 10 ** Math.floor(Math.log10(size));
    step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= 0.7 * size);
    if (axis.form === "integer") step = Math.max(1, step);
    const last = Math.floor(axis.high / step + 1e-9);
    for (let n = Math.ceil(axis.low / step - 1e-9); n <= last; n++) values.push(n * step + 0); // not -0
  }
  return values.map((value) => [place(value, axis), text(value, axis.form, step)]);
}

// ----- Drawing again for another range

function pathOf(series, chart, dotted) {
  const x = (i) => (SIDE * place(series.x[i], chart.x)).toFixed(1);
  const y = (v) => {
    const height = SIDE * (1 - place(v, chart.y));
    return Math.max(-4 * SIDE, Math.min(4 * SIDE, height)).toFixed(1);
  };
  const known = series.low ?? series.y;
  const runs = [[]];
  known.forEach((value, i) => (value === null ? runs.push([]) : runs.at(-1).push(i)));
  return runs.filter((run) => run.length).map((run) => {
    const points = (values, places) => places.map((i) => `${x(i)} ${y(values[i])}`);
    if (dotted) return points(series.y, run).map((point) => `M${point}h0`).join("");
    if (series.low)
      return `M${[...points(series.high, run), ...points(series.low, run.toReversed())].join("L")}Z`;
    return `M${points(series.y, run).join("L")}`;
  }).join("");
}

function draw(chart) {
  const paths = [...chart.area.querySelectorAll("svg path")];
  paths.shift().setAttribute("d", ticks(chart.y).map(([at]) => `M0 ${SIDE - SIDE * at}h${SIDE}`).join(""));
  for (const series of chart.series) {
    if (series.style === "line dots") paths.shift().setAttribute("d", pathOf(series, chart, false));
    paths.shift().setAttribute("d", pathOf(series, chart, series.style.includes("dots")));
  }
  for (const [name, axis, side] of [["x", chart.x, "left"], ["y", chart.y, "bottom"]]) {
    chart.area.querySelector(`.ticks.${name}`).replaceChildren(...ticks(axis).map(([at, label]) => {
      const tick = document.createElement("span");
      tick.style[side] = `${100 * at}%`;
      tick.textContent = label;
      return tick;
    }));
  }
}

// Zoom all charts of a group. The vertical axis fits what is visible of lines and dots.
function zoom(group, low, high) {
  for (const chart of charts.filter((each) => each.zoom === group)) {
    const everything = low <= chart.full.x.low && high >= chart.full.x.high;
    chart.x = { ...chart.full.x, low: Math.max(low, chart.full.x.low), high: Math.min(high, chart.full.x.high) };
    chart.y = chart.full.y;
    const inside = chart.series.filter((s) => s.y && s.style !== "rule").flatMap((s) =>
      s.y.filter((v, i) => v !== null && s.x[i] >= chart.x.low && s.x[i] <= chart.x.high));
    if (!everything && inside.length > 1) {
      const least = Math.min(...inside), most = Math.max(...inside);
      const room = 0.12 * (most - least) || 0.05 * Math.abs(most) || 1;
      chart.y = { ...chart.full.y, low: least - room, high: most + room };
    }
    draw(chart);
  }
}

// ----- Values at the pointer

function nearest(values, value) {
  let best = 0;
  values.forEach((v, i) => { if (Math.abs(v - value) < Math.abs(values[best] - value)) best = i; });
  return best;
}

function rowsAt(chart, share) {
  const shown = chart.series.filter((s) => s.style !== "rule");
  const wanted = valueAt(share, chart.x);
  const distance = (x) => Math.abs(place(x, chart.x) - share);
  const closest = (all) => all.map((s) => s.x[nearest(s.x, wanted)])
    .reduce((best, x) => (distance(x) < distance(best) ? x : best), Infinity);
  const dot = closest(shown.filter((s) => s.style === "dots"));  // few: the pointer snaps to them
  const at = distance(dot) < 0.015 ? dot : closest(shown);
  const rows = [];
  for (const series of shown) {
    const i = nearest(series.x, at);
    if (Math.abs(place(series.x[i], chart.x) - place(at, chart.x)) > 0.015) continue;
    const form = chart.y.form;
    if (series.y) {
      if (series.y[i] !== null) rows.push(`${series.name}: ${text(series.y[i], form)}`);
    } else if (series.low[i] !== null && series.low[i] !== series.high[i]) {
      rows.push(`${series.name}: ${text(series.low[i], form)} to ${text(series.high[i], form)}`);
    }
  }
  return [at, rows];
}

function watch(chart) {
  const area = chart.area;
  const add = (name) => {
    const element = document.createElement("div");
    element.className = name;
    element.hidden = true;
    area.append(element);
    return element;
  };
  const [cursor, selection, values] = ["cursor", "selection", "values"].map(add);
  values.setAttribute("role", "status");
  area.classList.add("live");
  area.tabIndex = 0;
  const shareOf = (event) => {
    const box = area.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  };
  let start = null, current = 0.5;

  function show(share) {
    const [at, rows] = rowsAt(chart, share);
    current = Math.max(0, Math.min(1, place(at, chart.x)));
    const head = document.createElement("b");
    head.textContent = `${chart.x.label} ${text(at, chart.x.form === "percent" ? "percent" : "integer")}`;
    values.replaceChildren(head, ...rows.flatMap((row) => [row, document.createElement("br")]));
    cursor.hidden = values.hidden = false;
    cursor.style.left = `${100 * current}%`;
    const room = area.clientWidth - values.offsetWidth, left = current * area.clientWidth;
    const beside = left + 12 <= room ? left + 12 : left - 12 - values.offsetWidth;
    values.style.left = `${Math.max(Math.min(0, room), beside)}px`;
  }
  function hide() {
    cursor.hidden = values.hidden = selection.hidden = true;
    start = null;
  }
  function select(share) {
    selection.hidden = false;
    selection.style.left = `${100 * Math.min(start, share)}%`;
    selection.style.width = `${100 * Math.abs(share - start)}%`;
  }
  area.addEventListener("pointermove", (event) => {
    show(shareOf(event));
    if (start !== null) select(shareOf(event));
  });
  area.addEventListener("click", (event) => show(shareOf(event)));
  // A finger leaves as soon as it is lifted; a tap elsewhere takes the focus away.
  area.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
  area.addEventListener("blur", hide);
  area.addEventListener("focus", () => area.matches(":focus-visible") && show(current));
  area.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
    if (event.key === "Escape") hide();
    if (by === undefined) return;
    event.preventDefault();
    show(Math.max(0, Math.min(1, current + by)));
  });
  if (!chart.zoom) return;
  area.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button === 0) start = shareOf(event);
  });
  area.addEventListener("pointerup", (event) => {
    const share = shareOf(event);
    if (start !== null && Math.abs(share - start) > 0.01) {
      zoom(chart.zoom, ...[start, share].sort((a, b) => a - b).map((s) => valueAt(s, chart.x)));
    }
    selection.hidden = true;
    start = null;
  });
  area.addEventListener("dblclick", () => zoom(chart.zoom, -Infinity, Infinity));
}

charts.forEach(watch);
for (const button of document.querySelectorAll("[data-from]")) {
  button.addEventListener("click", () => {
    const { low, high } = charts.find((chart) => chart.zoom).full.x;
    zoom("steps", low + Number(button.dataset.from) * (high - low), Infinity);
  });
}

// ----- Theme

const theme = document.getElementById("theme");
const isDark = () =>
  (document.documentElement.dataset.theme ??
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  nameTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
nameTheme();
for (const element of document.querySelectorAll("#theme, .with-script")) element.hidden = false;
