// The threshold explorer, all of it that runs in a browser: one module, without a build step, a framework or a network.
//
// The picture, its small soft masks and the truth come as one payload (packing.py). From there on nothing needs Python:
// masks are enlarged, cut, matched, counted and drawn here, so that a slider answers at once, wherever the kernel is and
// whether there is one or not. In a notebook this is the front end of an anywidget; in a page, `showExplorer` is called.

// ---- what stands on the page --------------------------------------------------------------------

const VALUES = ["picture", "score_threshold", "mask_threshold", "alpha", "classes", "price"];
const SHOWN = ["masks", "outlines", "boxes", "labels", "dropped", "missed"];
const LIMITS = { score_threshold: [0.05, 1], mask_threshold: [0.05, 0.95], alpha: [0, 1] };
const STOPPED = 300; // milliseconds without a change after which a person has stopped moving
const PRICES = [0.1, 0.2, 0.5, 1, 2, 5, 10];
const NARROW = 800; // pixels: a page no wider than this has one column
const SIDE = 290; // pixels that the column beside the picture takes
const WIDE = 880; // pixels that several pictures take at least, where the page has them
const STRIP = 76; // pixels: the height of the strip of scores
const LENS = 120; // pixels: how large the card shows a mask
const NEAR = 7; // pixels between a pointer and what it means

const STYLE = `
.segutils-explorer { position: relative; font-size: 13px; line-height: 18px; text-align: left; }
.segutils-explorer * { box-sizing: border-box; }
.segutils-explorer .line { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 14px; }
.segutils-explorer .field { display: flex; align-items: center; gap: 6px; flex: 1 1 260px; }
.segutils-explorer .field input[type=range] { flex: 1 1 90px; min-width: 60px; margin: 0; accent-color: #0072b2; }
.segutils-explorer input, .segutils-explorer select, .segutils-explorer button { font: inherit; color: inherit; }
.segutils-explorer input[type=number] { width: 58px; }
.segutils-explorer input[type=checkbox] { margin: 0; accent-color: #0072b2; }
.segutils-explorer input[type=number], .segutils-explorer select, .segutils-explorer button {
    background: color-mix(in srgb, currentColor 7%, transparent); border-radius: 3px; padding: 1px 6px;
    border: 1px solid color-mix(in srgb, currentColor 55%, transparent); min-height: 24px; margin: 0; }
.segutils-explorer option { background: Canvas; color: CanvasText; }
.segutils-explorer button { cursor: pointer; }
.segutils-explorer button:hover { background: color-mix(in srgb, currentColor 16%, transparent); }
.segutils-explorer :focus-visible { outline: 2px solid #0072b2; outline-offset: 2px; box-shadow: 0 0 0 2px #fff; }
.segutils-explorer .strip { display: block; width: 100%; height: ${STRIP}px; cursor: ew-resize; touch-action: pan-y; }
.segutils-explorer .counts { min-height: 18px; margin: 2px 0 6px; }
.segutils-explorer .quiet { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.segutils-explorer .body { display: grid; grid-template-columns: minmax(0, 1fr) 272px; gap: 8px 18px; align-items: start; }
.segutils-explorer .stage { position: relative; overflow: hidden; touch-action: pan-x pan-y; cursor: crosshair; }
.segutils-explorer .stage img { position: absolute; left: 0; top: 0; max-width: none; margin: 0; border: 0; border-radius: 0;
    transform-origin: 0 0; }
.segutils-explorer .stage canvas { position: absolute; left: 0; top: 0; will-change: transform; }
.segutils-explorer .tip { position: absolute; pointer-events: none; padding: 1px 6px; border-radius: 4px; max-width: 260px;
    overflow-wrap: anywhere; background: #222; color: #fff; border: 1px solid #fff; }
.segutils-explorer .tools { margin-top: 6px; gap: 4px 8px; }
.segutils-explorer pre { margin: 4px 0 0; padding: 0; overflow-x: auto; line-height: 18px; background: none; border: 0; color: inherit; }
.segutils-explorer code { background: none; padding: 0; color: inherit; white-space: pre; font-size: 12px; }
.segutils-explorer .side > * { margin-bottom: 8px; }
.segutils-explorer .heading { font-weight: bold; display: block; }
.segutils-explorer .body > div > .heading { margin-top: 6px; }
.segutils-explorer .classes { max-height: 204px; overflow-y: auto; margin-bottom: 6px; }
.segutils-explorer .tick { display: flex; align-items: center; gap: 6px; min-height: 24px; overflow-wrap: anywhere; }
.segutils-explorer .ticks { display: grid; grid-template-columns: repeat(3, auto); justify-content: start; gap: 0 14px; }
.segutils-explorer .tick select { flex: 1 1 0; min-width: 0; text-overflow: ellipsis; }
.segutils-explorer .swatch { flex: none; width: 14px; height: 14px; border-radius: 3px; border: 1px solid currentColor;
    forced-color-adjust: none; }
.segutils-explorer .card { border-left: 3px solid color-mix(in srgb, currentColor 45%, transparent); padding-left: 10px; }
.segutils-explorer .card dl { display: grid; grid-template-columns: auto 1fr; gap: 0 8px; margin: 2px 0 6px; }
.segutils-explorer .card dt { opacity: 0.85; float: none; width: auto; font-weight: normal; }
.segutils-explorer .card dd { margin: 0; overflow-wrap: anywhere; }
.segutils-explorer .card canvas { display: block; flex: none; width: ${LENS}px; height: ${LENS}px; border: 1px solid currentColor; }
.segutils-explorer.picked:not(.roomy) .panel { display: none; }
.segutils-explorer.roomy .card { position: absolute; left: calc(100% + 18px); width: ${SIDE - 18}px; }
.segutils-explorer .card .line { justify-content: space-between; flex-wrap: nowrap; }
.segutils-explorer .card .lens { justify-content: start; align-items: start; gap: 8px; }
.segutils-explorer svg { display: block; overflow: visible; font-size: 11px; }
.segutils-explorer .curve { cursor: pointer; touch-action: none; }
.segutils-explorer .gallery { display: flex; gap: 8px; overflow-x: auto; padding: 4px 2px 6px; margin-top: 6px; }
.segutils-explorer .thumb { position: relative; flex: none; width: 106px; padding: 3px; font-size: 12px; line-height: 1.25; cursor: pointer;
    white-space: pre-line; border: 1px solid color-mix(in srgb, currentColor 55%, transparent); border-radius: 3px; }
.segutils-explorer .thumb img { display: block; width: 100%; height: 64px; object-fit: cover; margin: 0 0 2px; }
.segutils-explorer .thumb:has(:checked) { outline: 3px solid #0072b2; outline-offset: -1px; }
.segutils-explorer .thumb:has(:focus-visible) { box-shadow: 0 0 0 3px #fff, 0 0 0 5px #0072b2; }
.segutils-explorer [hidden] { display: none !important; }
.segutils-explorer.narrow .counts { min-height: 36px; }
.segutils-explorer.narrow code { white-space: pre-wrap; }
.segutils-explorer.narrow .body { grid-template-columns: minmax(0, 1fr); }
.segutils-explorer.narrow .side { display: grid; grid-template-columns: repeat(auto-fit, minmax(272px, 1fr)); gap: 0 24px; align-items: start; }
`;

/** Bring a payload to life in an element of a page. (An export called `render` anywidget would take for its own.) */
export function showExplorer(element, payload) {
    return open(element, payload, null);
}

export default {
    /** The front end of the widget. Whatever moves here moves at once; the kernel only hears of it. */
    render({ model, el }) {
        return open(el, model.get("data"), model);
    },
};

function open(element, payload, model) {
    const scene = unpack(payload);
    const app = { scene, model, view: { ...scene.view }, changed: new Set(), room: 0, sharp: 1, stamps: new Map() };
    app.frame = app.stopping = app.counting = 0;
    app.picked = app.pointed = null; // what is clicked, what is pointed at: {kind: "instance" or "thing", row}
    if (model) for (const name of [...VALUES, ...SHOWN]) app.view[name] = model.get(name);
    build(app);
    choosePicture(app);
    tell(app); // before it stands in the page: what is there from the start is not read out
    element.append(app.root);
    const listeners = model ? listen(app) : [];
    const sizes = new ResizeObserver(([{ contentRect }]) => {
        // A scrollbar that comes because the picture is high, and makes it smaller, would else go and come for ever.
        if (contentRect.width >= app.room && contentRect.width < app.room + 20) return;
        app.room = contentRect.width;
        fit(app);
    });
    sizes.observe(element);
    const looks = matchMedia("(prefers-color-scheme: dark)"), again = () => schedule(app), resized = () => fit(app);
    looks.addEventListener("change", again);
    addEventListener("resize", resized);
    // Where the page, not the system, is dark or light: JupyterLab marks its body, our pages their root.
    const themes = new MutationObserver(again);
    for (const node of [document.body, document.documentElement]) themes.observe(node, { attributes: true });
    return () => {
        sizes.disconnect();
        themes.disconnect();
        looks.removeEventListener("change", again);
        removeEventListener("resize", resized);
        for (const [event, listener] of listeners) model.off(event, listener);
        cancelAnimationFrame(app.frame);
        for (const timer of [app.stopping, app.counting]) clearTimeout(timer);
        app.root.remove();
    };
}

function listen(app) {
    const { model, view } = app;
    const listeners = [...VALUES, ...SHOWN].map((name) => [
        `change:${name}`,
        () => {
            if (same(view[name], model.get(name))) return;
            view[name] = model.get(name);
            if (name === "picture") choosePicture(app);
            change(app);
        },
    ]);
    listeners.push(["change:counted", () => change(app)]);
    listeners.push(["msg:custom", (message) => message.type === "saved" && say(app, message.text)]);
    for (const [event, listener] of listeners) model.on(event, listener);
    return listeners;
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** Change a value of the view: it shows in the next frame, and the kernel hears of it in the same. */
function set(app, name, value) {
    if (same(app.view[name], value)) return;
    app.view[name] = value;
    app.changed.add(name);
    if (name === "picture") choosePicture(app);
    change(app);
}

function setThreshold(app, name, value) {
    const [low, high] = LIMITS[name];
    if (Number.isFinite(value)) set(app, name, Math.min(Math.max(Math.round(value * 100) / 100, low), high));
}

/** What is shown has changed: draw it, and tell of it once a person has stopped. */
function change(app) {
    app.message = "";
    app.isNews = true;
    schedule(app);
}

function schedule(app) {
    app.frame ||= requestAnimationFrame(() => {
        app.frame = 0;
        paint(app);
        if (app.model && app.changed.size) {
            for (const name of app.changed) app.model.set(name, app.view[name]);
            app.model.save_changes();
        }
        app.changed.clear();
        if (!app.isNews) return;
        app.isNews = false;
        clearTimeout(app.stopping);
        app.stopping = setTimeout(() => stop(app), STOPPED);
    });
}

// ---- building -----------------------------------------------------------------------------------

const NAMESPACE = "http://www.w3.org/2000/svg";

function h(tag, attributes = {}, ...children) {
    return fill(document.createElement(tag), attributes, children);
}

function s(tag, attributes = {}, ...children) {
    return fill(document.createElementNS(NAMESPACE, tag), attributes, children);
}

function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
        if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
        else if (value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
}

const css = (color) => `rgb(${color.join(",")})`;

function build(app) {
    const { scene } = app;
    app.fields = {};
    const score = slider(app, "score_threshold", "Score threshold"), mask = slider(app, "mask_threshold", "Mask threshold");
    app.strip = h("canvas", { class: "strip", role: "img" });
    app.counts = h("div", { class: "counts", "aria-hidden": "true" }); // the status says the same, but not at each step
    app.status = h("div", { class: "quiet", role: "status" });
    app.image = h("img", { draggable: "false", decoding: "sync", onload: () => fit(app) });
    app.canvas = h("canvas", { "aria-hidden": "true" });
    app.tip = h("div", { class: "tip", hidden: true });
    app.sums = h("div", { class: "heading" });
    app.stage = h(
        "div",
        { class: "stage", tabindex: 0, role: "group", "aria-label": "Picture. Plus and minus zoom, the arrow keys move, 0 fits." },
        app.image, app.canvas,
    );
    app.code = h("code");
    const copy = h("button", { type: "button", onclick: () => copyCode(app, copy) }, "Copy as code");
    const tools = h(
        "div",
        { class: "line tools" },
        h("button", { type: "button", "aria-label": "Zoom out", onclick: () => zoom(app, 1 / 1.5) }, "\u2212"),
        h("button", { type: "button", "aria-label": "Zoom in", onclick: () => zoom(app, 1.5) }, "+"),
        h("button", { type: "button", onclick: () => zoom(app, 0) }, "Fit"),
        h("button", { type: "button", onclick: () => save(app) }, "Save picture"),
        copy,
    );
    const code = h("pre", { tabindex: 0, "aria-label": "The code that draws this view", role: "group" }, app.code);
    const left = h("div", {}, app.stage, tools, code, ...(scene.several ? [app.sums, gallery(app)] : []));
    app.card = h("div", { class: "card", hidden: true, role: "group", "aria-label": "Instance" });
    app.choice = h("select", { "aria-label": "Instance", onchange: () => pick(app, chosen(app.choice.value)) });
    const instance = h("label", { class: "tick" }, h("b", {}, "Instance"), app.choice);
    const side = h("div", { class: "side" }, instance, app.card, h("div", { class: "panel" }, ...panel(app)), ...(scene.has_target ? trade(app) : []));
    app.root = h(
        "div",
        { class: "segutils-explorer" },
        h("style", {}, STYLE),
        h("div", { class: "line" }, score, mask),
        app.strip, app.counts, app.status,
        h("div", { class: "body" }, left, side),
        app.tip,
    );
    useStrip(app);
    useStage(app);
    app.root.addEventListener("keydown", (event) => {
        // JupyterLab would take arrows, and letters typed into a list, for its own shortcuts. Those with Ctrl stay its own.
        if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
        if (event.key === "Escape" && app.picked) pick(app, null);
    });
}

function slider(app, key, name) {
    const limits = { min: LIMITS[key][0], max: LIMITS[key][1], step: 0.01, "aria-label": name };
    const number = h("input", { type: "number", ...limits });
    const range = h("input", { type: "range", ...limits });
    range.addEventListener("input", () => setThreshold(app, key, range.valueAsNumber));
    number.addEventListener("change", () => {
        setThreshold(app, key, number.valueAsNumber);
        number.value = app.view[key];
    });
    app.fields[key] = [number, range];
    return h("div", { class: "field" }, h("span", { "aria-hidden": "true" }, name), number, range);
}

/** Which classes count, and what is drawn. */
function panel(app) {
    const { scene } = app;
    app.classes = new Map();
    const rows = scene.classes.map((label) => {
        const box = h("input", { type: "checkbox", onchange: () => chooseClass(app, label, box.checked) });
        const text = h("span");
        app.classes.set(label, { box, text });
        const swatch = h("span", { class: "swatch", style: `background: ${css(scene.colors[label])}` });
        return h("label", { class: "tick" }, box, swatch, text);
    });
    const all = (labels, name, does) => h("button", { type: "button", "aria-label": does, onclick: () => set(app, "classes", labels) }, name);
    const buttons = [all(scene.classes, "All", "Show all of the classes"), all([], "None", "Show none of the classes")];
    const names = SHOWN.filter((name) => name !== "missed" || scene.has_target);
    app.shown = new Map(names.map((name) => [name, h("input", { type: "checkbox", onchange: (e) => set(app, name, e.target.checked) })]));
    return [
        h("div", { class: "line" }, h("span", { class: "heading" }, `Classes (${rows.length})`), ...(rows.length > 1 ? buttons : [])),
        h("div", { class: "classes", role: "group", "aria-label": "Classes" }, ...rows),
        h("span", { class: "heading" }, "Drawn"),
        h("div", { class: "ticks" }, ...names.map((name) => h("label", { class: "tick" }, app.shown.get(name), name))),
        slider(app, "alpha", "Opacity"),
    ];
}

function chooseClass(app, label, wanted) {
    set(app, "classes", app.scene.classes.filter((one) => (one === label ? wanted : app.view.classes.includes(one))));
}

/** The curve of precision over recall and, for several pictures, the price of a miss. */
function trade(app) {
    const line = (d) => s("path", { d, fill: "none", stroke: "currentColor" });
    const text = (x, y, words, anchor = "middle") => s("text", { x, y, "text-anchor": anchor, fill: "currentColor" }, words);
    app.curveLine = s("polyline", { fill: "none", stroke: "currentColor", "stroke-width": 2, "stroke-linejoin": "round" });
    app.curveDot = s("circle", { r: 6, fill: "#D55E00", stroke: "currentColor", "stroke-width": 1.5 });
    app.curveNote = text(109, 102, "");
    const turned = s("text", { transform: "translate(12 62) rotate(-90)", "text-anchor": "middle", fill: "currentColor" }, "precision");
    app.curve = s(
        "svg",
        { class: "curve", role: "img", width: 200, height: 132 },
        s("rect", { x: 34, y: 8, width: 156, height: 106, fill: "transparent" }),
        line("M34 12V112H184"), text(30, 16, "1", "end"), text(30, 115, "0", "end"), text(184, 127, "1"), text(109, 127, app.scene.several ? "recall, all pictures" : "recall"),
        turned, app.curveLine, app.curveDot, app.curveNote,
    );
    drag(app.curve, (event) => alongCurve(app, event));
    if (!app.scene.several) return [app.curve];
    app.price = h("input", { type: "range", min: 0, max: PRICES.length - 1, step: 1, "aria-label": "Price of a miss, in false alarms" });
    app.price.addEventListener("input", () => set(app, "price", PRICES[app.price.valueAsNumber]));
    app.priceText = h("span");
    app.best = h("button", { type: "button", onclick: () => app.cheapest && setThreshold(app, "score_threshold", app.cheapest) }, "Counting \u2026");
    return [app.curve, h("div", {}, h("div", { class: "field" }, app.priceText, app.price), app.best)];
}

/** Call `move` while a pointer that went down on the element moves, wherever it goes. */
function drag(element, move, up = () => {}) {
    let from = null;
    element.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        from = [event.clientX, event.clientY];
        element.setPointerCapture(event.pointerId);
        move(event, false);
    });
    element.addEventListener("pointermove", (event) => {
        if (from) move(event, Math.hypot(event.clientX - from[0], event.clientY - from[1]) > 3);
    });
    for (const end of ["pointerup", "pointercancel"])
        element.addEventListener(end, (event) => {
            if (from && end === "pointerup") up();
            from = null;
        });
}

// ---- a picture, its size and its zoom -----------------------------------------------------------

const shownPicture = (app) => app.scene.pictures[app.view.picture];

function choosePicture(app) {
    Object.assign(app, { isFitted: false, zoom: 1, panX: 0, panY: 0, spots: [], labels: [], pointed: null, curveOf: null });
    app.image.src = `data:image/jpeg;base64,${shownPicture(app).jpeg}`; // once it has been loaded, it is fitted and drawn
    pick(app, null);
    if (app.scene.several && app.countedAt !== app.view.mask_threshold) countAll(app);
    count(app);
}

/** Give the picture as much room as the page has, so that all that matters can be seen without scrolling. */
function fit(app) {
    const picture = shownPicture(app), isWide = app.room > NARROW, beside = isWide ? SIDE : 0, before = app.width;
    if (!app.room || !app.image.complete) return;
    const height = Math.max(260, innerHeight - (app.scene.several ? 425 : 300));
    app.scale = Math.min((app.room - beside) / picture.width, height / picture.height, 2);
    app.width = Math.round(picture.width * app.scale);
    app.height = Math.round(picture.height * app.scale);
    const width = isWide ? Math.min(app.room, Math.max(app.width + beside, app.scene.several ? WIDE : NARROW)) : app.room;
    app.root.style.maxWidth = `${width}px`;
    app.root.classList.toggle("narrow", !isWide);
    app.root.classList.toggle("roomy", app.room >= width + SIDE); // then the card has a place of its own
    Object.assign(app.stage.style, { width: `${app.width}px`, height: `${app.height}px` });
    const sharp = Math.min(devicePixelRatio || 1, 2);
    for (const [canvas, across, down] of [[app.canvas, app.width, app.height], [app.strip, width, STRIP]]) {
        canvas.width = across * sharp;
        canvas.height = down * sharp;
    }
    Object.assign(app.canvas.style, { width: `${app.width}px`, height: `${app.height}px` });
    Object.assign(app, { isFitted: true, sharp, stripWidth: width, cardOf: null });
    app.panX *= app.width / (before || app.width);
    app.panY *= app.width / (before || app.width);
    app.stamps.clear();
    zoom(app, 1);
}

/** Zoom by a factor about a point of the stage, its middle if none is given; a factor of 0 fits the picture again. */
function zoom(app, factor, x = app.width / 2, y = app.height / 2) {
    const now = factor ? Math.min(Math.max(app.zoom * factor, 1), 16) : 1;
    app.panX = x - ((x - app.panX) * now) / app.zoom;
    app.panY = y - ((y - app.panY) * now) / app.zoom;
    app.zoom = now;
    pan(app, 0, 0);
}

function pan(app, x, y) {
    app.panX = Math.min(0, Math.max(app.panX + x, app.width * (1 - app.zoom)));
    app.panY = Math.min(0, Math.max(app.panY + y, app.height * (1 - app.zoom)));
    const { width, height } = shownPicture(app), scale = app.scale * app.zoom;
    Object.assign(app.image.style, {
        width: `${width}px`, height: `${height}px`,
        transform: `translate(${app.panX}px, ${app.panY}px) scale(${scale})`,
        imageRendering: scale > 4 ? "pixelated" : "auto",
    });
    app.stage.style.touchAction = app.zoom > 1 ? "none" : "pan-x pan-y";
    app.grid = gridOf(app);
    schedule(app);
}

/** Where the pixels of the canvas, and some around it, lie in the picture; and where the picture lies on the canvas. */
function gridOf({ canvas, sharp, scale: fitted, zoom, panX, panY }) {
    const scale = sharp * fitted * zoom, left = sharp * panX, top = sharp * panY;
    const middles = (count, start) => Float64Array.from({ length: count + 2 * MARGIN }, (_, i) => (i - MARGIN + 0.5 - start) / scale - 0.5);
    return { across: middles(canvas.width, left), down: middles(canvas.height, top), scale, left, top, sharp };
}

const KEYS = {
    "+": (app) => zoom(app, 1.5), "=": (app) => zoom(app, 1.5), "-": (app) => zoom(app, 1 / 1.5), 0: (app) => zoom(app, 0),
    ArrowLeft: (app) => pan(app, 60, 0), ArrowRight: (app) => pan(app, -60, 0),
    ArrowUp: (app) => pan(app, 0, 60), ArrowDown: (app) => pan(app, 0, -60),
};

function useStage(app) {
    const { stage } = app, fingers = new Map();
    let travelled = 0;
    const place = (event) => {
        const corner = stage.getBoundingClientRect();
        return [event.clientX - corner.left, event.clientY - corner.top];
    };
    stage.addEventListener("keydown", (event) => {
        const moves = event.key.startsWith("Arrow");
        if (!KEYS[event.key] || event.ctrlKey || event.metaKey || event.altKey || (moves && app.zoom === 1)) return;
        event.preventDefault();
        KEYS[event.key](app);
    });
    // The wheel alone scrolls the page, as everywhere, until the picture is zoomed. Pinching a touchpad is wheel with Ctrl.
    const wheel = (event) => {
        if (!event.ctrlKey && !event.metaKey && app.zoom === 1) return;
        event.preventDefault();
        const turned = (event.deltaY * (event.deltaMode ? 33 : 1)) / (event.ctrlKey ? 100 : 400); // some count lines
        zoom(app, Math.exp(-Math.max(-0.4, Math.min(turned, 0.4))), ...place(event));
    };
    stage.addEventListener("wheel", wheel, { passive: false });
    stage.addEventListener("dblclick", (event) => zoom(app, 2, ...place(event)));
    stage.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        fingers.set(event.pointerId, place(event));
        stage.setPointerCapture(event.pointerId);
        if (fingers.size === 1) travelled = 0;
    });
    stage.addEventListener("pointermove", (event) => {
        const here = place(event), before = fingers.get(event.pointerId);
        if (!before) return point(app, what(app, ...here), event);
        const [x, y] = [here[0] - before[0], here[1] - before[1]];
        travelled += Math.hypot(x, y);
        fingers.set(event.pointerId, here);
        if (fingers.size === 2) {
            const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
            const apart = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]) || 1;
            zoom(app, apart(here) / apart(before), ...other);
        } else if (app.zoom > 1 && travelled > 3) pan(app, x, y);
    });
    for (const end of ["pointerup", "pointercancel"])
        stage.addEventListener(end, (event) => {
            if (fingers.delete(event.pointerId) && end === "pointerup" && travelled <= 3) pick(app, what(app, ...place(event)));
        });
    stage.addEventListener("pointerleave", () => point(app, null));
}

/** What lies at a point of the stage: what is named there, else the smallest mask of those that are drawn there. */
function what(app, x, y) {
    const across = x * app.sharp, down = y * app.sharp;
    const label = app.labels.find(({ left, top, width, height }) => across >= left && down >= top && across < left + width && down < top + height);
    if (label) return label.one;
    const scale = app.scale * app.zoom, column = Math.floor((x - app.panX) / scale), row = Math.floor((y - app.panY) / scale);
    const picture = shownPicture(app), { now, view } = app;
    const covers = (crop) => {
        const [i, j] = [column - crop.left, row - crop.top];
        return i >= 0 && j >= 0 && i < crop.width && j < crop.height && crop.values[j * crop.width + i];
    };
    const instances = [...now.kept, ...(view.dropped ? now.dropped : [])].map((row) => ({ kind: "instance", row }));
    const things = view.missed ? now.missed.map((row) => ({ kind: "thing", row })) : [];
    const found = [...instances, ...things].map((one) => ({ one, crop: cropOf(app, picture, one) }));
    const here = found.filter(({ crop }) => covers(crop)).sort((a, b) => a.crop.area - b.crop.area);
    return here.length ? here[0].one : null;
}

const lookUp = (picture, { kind, row }) => (kind === "thing" ? picture.things : picture.instances)[row];

const cropOf = (app, picture, one) => lookUp(picture, one).mask ?? cut(lookUp(picture, one), app.view.mask_threshold);

/** Light up what a pointer means, and name it beside the pointer. */
function point(app, one, event) {
    app.tip.hidden = !one;
    if (one) {
        const corner = app.root.getBoundingClientRect();
        app.tip.textContent = nameOf(app, one);
        const left = Math.min(event.clientX - corner.left + 12, corner.width - app.tip.offsetWidth);
        app.tip.style.left = `${Math.max(0, left)}px`;
        app.tip.style.top = `${event.clientY - corner.top + 14}px`;
    }
    if (same(one, app.pointed)) return;
    app.pointed = one;
    schedule(app);
}

function pick(app, one) {
    if (!one && app.card.contains(app.card.getRootNode().activeElement)) app.choice.focus();
    app.picked = one;
    app.root.classList.toggle("picked", Boolean(one));
    app.card.hidden = !one;
    if (one) listInstances(app);
    else app.choice.value = "";
    schedule(app);
}

const chosen = (value) => (value ? { kind: value.split(" ")[0], row: Number(value.split(" ")[1]) } : null);

// ---- one frame ----------------------------------------------------------------------------------

/** The match of each instance: the kernel's own count, on masks of full size, where it is there; else the browser's. */
function matchesOf(app, picture) {
    if (!app.scene.has_target) return null;
    const counted = app.model?.get("counted");
    const rows = counted?.mask_threshold === app.view.mask_threshold && counted.matches[picture.index];
    return rows ? Int32Array.from(rows) : matchAll(picture, app.view.mask_threshold);
}

function paint(app) {
    const picture = shownPicture(app);
    count(app);
    if (app.isFitted) drawPicture(app, picture); // until then, the last picture stays with what was drawn on it
    if (app.stripWidth) drawStrip(app, picture);
    if (app.picked) drawCard(app, picture);
}

/** Count, and say it in the words, numbers and ticks around the picture. */
function count(app) {
    const { view, scene } = app, picture = shownPicture(app);
    app.matches = matchesOf(app, picture);
    app.now = tally(picture, view, app.matches);
    app.verdicts = verdicts(app, picture);
    if (app.picked && !view.classes.includes(lookUp(picture, app.picked).label)) pick(app, null);
    if (scene.has_target) drawCurve(app);
    if (scene.several) setText(app.sums, sumUp(app));
    const words = describe(app.now, scene.has_target);
    app.words = scene.several ? `Picture ${picture.index + 1} of ${scene.pictures.length}. ${words}` : words;
    setText(app.counts, app.message || app.words);
    setText(app.code, asCode(scene, view));
    for (const [key, inputs] of Object.entries(app.fields))
        for (const input of inputs) if (input.type === "range" || !input.matches(":focus")) setValue(input, view[key]);
    for (const [name, box] of app.shown) box.checked = view[name];
    app.thumbs?.forEach(({ button }, index) => (button.checked = index === view.picture));
    countClasses(app, picture);
    if (app.price) {
        const apart = PRICES.map((price) => Math.abs(Math.log(price / view.price)));
        setValue(app.price, apart.indexOf(Math.min(...apart)));
        setText(app.priceText, `A miss costs ${plural(view.price, "false alarm")}`);
        app.price.setAttribute("aria-valuetext", plural(view.price, "false alarm"));
    }
}

const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
}

function setValue(input, value) {
    if (input.value !== String(value)) input.value = value;
}

function countClasses(app, picture) {
    const kept = new Map(), dropped = new Map();
    for (const [rows, counts] of [[app.now.kept, kept], [app.now.dropped, dropped]])
        for (const row of rows) counts.set(picture.instances[row].label, (counts.get(picture.instances[row].label) ?? 0) + 1);
    for (const [label, { box, text }] of app.classes) {
        box.checked = app.view.classes.includes(label);
        const count = box.checked ? `${kept.get(label) ?? 0} kept, ${dropped.get(label) ?? 0} dropped` : "not shown";
        setText(text, `${app.scene.categories[label]}: ${count}`);
    }
}

/** For each instance: "hit", "false alarm", "ignored", "kept" or "dropped"; "" for classes that are not shown. */
function verdicts(app, picture) {
    const { now } = app, found = new Array(picture.instances.length).fill("");
    for (const row of now.dropped) found[row] = "dropped";
    for (const row of now.kept) found[row] = app.matches ? "false alarm" : "kept";
    for (const row of now.hits) found[row] = "hit";
    for (const row of now.ignored) found[row] = "ignored";
    return found;
}

const SIGNS = { hit: "\u2713 ", "false alarm": "\u2717 ", ignored: "\u2013 " };

function nameOf(app, { kind, row }, longest = Infinity) {
    const { label, score } = lookUp(shownPicture(app), { kind, row }), verdict = app.verdicts[row];
    const whole = app.scene.categories[label], name = whole.length > longest ? `${whole.slice(0, longest)}\u2026` : whole;
    if (kind === "thing") return `${app.now.missed.includes(row) ? "missed" : "found"}: ${name}`;
    const sign = verdict === "dropped" ? "dropped: " : SIGNS[verdict] ?? "";
    return `${sign}${name} ${twoDigits(score)}`;
}

function drawPicture(app, picture) {
    const { view, now, grid } = app, at = view.mask_threshold;
    const look = (threshold, alpha, width, isDashed = false) => ({ threshold, alpha, width, isDashed, key: [threshold, alpha, width, isDashed].join() });
    const mask = look(at, view.masks ? view.alpha : 0, view.outlines ? 2 : 0), white = look(0.5, 0, 1.4), dashed = look(at, 0, 1.4, true);
    const instance = (row) => ({ kind: "instance", row }), missed = (view.missed ? now.missed : []).map((row) => ({ kind: "thing", row }));
    const painted = (one, look, kept = sprites) => spriteOf(lookUp(picture, one), colorOf(app, picture, one), look, grid, kept);
    // The largest first, so that small ones come to lie over them.
    const areas = new Map(now.kept.map((row) => [row, areaAbove(picture.instances[row], at)]));
    const bySize = [...now.kept].sort((a, b) => areas.get(b) - areas.get(a));
    app.labels = view.labels ? labelsOf(app, picture, [...now.kept.map(instance), ...missed]) : [];
    lay(app, picture, new Set([
        ...(view.dropped ? now.dropped : []).map((row) => painted(instance(row), dashed)),
        ...(mask.alpha || mask.width ? bySize : []).map((row) => painted(instance(row), mask)),
        ...missed.map((one) => painted(one, white)),
        ...(view.boxes ? now.kept.flatMap((row) => edgesOf(app, picture.instances[row])) : []),
        ...[app.picked, app.pointed].filter(Boolean).map((one) => painted(one, look(at, 0.6, 3.5), litSprites)),
        ...app.labels.map(({ sprite }) => sprite),
    ]));
}

const WHITE = [255, 255, 255];
const colorOf = (app, picture, one) => (one.kind === "thing" ? WHITE : app.scene.colors[lookUp(picture, one).label]);
const OPAQUE = { alpha: false }; // a canvas through which nothing is seen is quicker to show

/** Lay sprites over the picture, the first at the bottom: rectangles of pixels of the canvas. What is as it was stays. */
function lay(app, picture, sprites) {
    const { grid, canvas: { width, height } } = app, isNew = app.layer?.grid !== grid || app.layer.picture !== picture;
    if (isNew) app.layer = { grid, picture, ...groundOf(app), sprites: new Set() };
    const { ground, image, pixels, sprites: before } = app.layer, context = app.canvas.getContext("2d", OPAQUE);
    app.layer.sprites = sprites;
    const changed = [...before].filter((sprite) => !sprites.has(sprite)).concat([...sprites].filter((sprite) => !before.has(sprite)));
    const all = { left: 0, top: 0, width, height }, area = changed.reduce((sum, sprite) => sum + sprite.width * sprite.height, 0);
    for (const part of isNew || 2 * area > width * height ? [all] : changed) {
        const left = Math.max(part.left, 0), right = Math.min(part.left + part.width, width);
        const top = Math.max(part.top, 0), bottom = Math.min(part.top + part.height, height);
        if (left >= right || top >= bottom) continue;
        for (let y = top; y < bottom; y++) pixels.set(ground.subarray(y * width + left, y * width + right), y * width + left);
        for (const sprite of sprites) {
            const start = Math.max(left, sprite.left), count = Math.min(right, sprite.left + sprite.width) - start;
            const last = Math.min(bottom, sprite.top + sprite.height);
            for (let y = Math.max(top, sprite.top); y < last; y++)
                blend(pixels, y * width + start, sprite.pixels, (y - sprite.top) * sprite.width + start - sprite.left, count);
        }
        context.putImageData(image, 0, 0, left, top, right - left, bottom - top);
    }
}

/** The picture in pixels of the canvas: once as it is, and once to lay sprites over it. */
function groundOf({ image: picture, canvas: { width, height }, grid: { left, top, scale, sharp }, view, scene }) {
    const context = new OffscreenCanvas(width, height).getContext("2d", { ...OPAQUE, willReadFrequently: true });
    context.imageSmoothingEnabled = scale <= 4 * sharp;
    context.imageSmoothingQuality = "medium";
    const shown = scene.pictures[view.picture];
    context.drawImage(picture, left, top, shown.width * scale, shown.height * scale);
    const image = context.getImageData(0, 0, width, height), pixels = new Int32Array(image.data.buffer);
    return { ground: pixels.slice(), image, pixels };
}

/** Lay `count` pixels over opaque ones. Their colours are premultiplied by their opacity, which makes that easy. */
function blend(pixels, i, over, j, count) {
    for (const end = j + count; j < end; i++, j++) {
        const above = over[j], below = pixels[i];
        if (!above) continue;
        const opacity = above >>> 24, rest = 256 - opacity - (opacity >>> 7);
        const redBlue = (Math.imul(below & 0xff00ff, rest) >>> 8) & 0xff00ff, green = (Math.imul(below & 0xff00, rest) >>> 8) & 0xff00;
        pixels[i] = (above + (redBlue | green)) | 0xff000000;
    }
}

/** The four sides of an instance's box, as sprites. */
function edgesOf({ canvas, grid, scene }, one) {
    if (edges.get(one)?.grid === grid) return edges.get(one).sprites;
    const { sharp, scale, left, top } = grid, [red, green, blue] = scene.colors[one.label], thick = Math.round(sharp);
    const [x1, y1, x2, y2] = one.box.map((value, i) => Math.round(value * scale + (i % 2 ? top : left)));
    const clip = (value, side) => Math.min(Math.max(value, 0), side);
    const sides = [[x1, y1, x2, y1 + thick], [x1, y2 - thick, x2, y2], [x1, y1, x1 + thick, y2], [x2 - thick, y1, x2, y2]].map((side) => {
        const [a, b, c, d] = side.map((value, i) => clip(value, i % 2 ? canvas.height : canvas.width)), width = c - a, height = d - b;
        return { left: a, top: b, width, height, pixels: new Int32Array(Math.max(width * height, 0)).fill(pixel(red, green, blue, 255)) };
    });
    edges.set(one, { grid, sprites: sides });
    return sides;
}

const pixel = (red, green, blue, opacity) => (opacity << 24) | (blue << 16) | (green << 8) | red; // as in ImageData

const RIM = 3; // pixels that a line may reach beyond the values
const STEPS = 8; // in a pixel, of the distance to the outline
const MARGIN = RIM + 1; // pixels around the canvas: at its edge, a mask goes on
const reliefs = new WeakMap(), sprites = new WeakMap(), litSprites = new WeakMap(), edges = new WeakMap(), names = new WeakMap(), tables = new Map();

/** The values of a mask in pixels of the canvas, with a rim of zeros: the same for all thresholds. */
function reliefOf(one, grid) {
    if (reliefs.get(one)?.grid === grid) return reliefs.get(one);
    const { left, top, width, height, values } = valuesOn(one, grid.across, grid.down);
    const columns = width + 2 * RIM, rows = height + 2 * RIM, padded = new Uint16Array(columns * rows);
    for (let y = 0; y < height; y++) padded.set(values.subarray(y * width, (y + 1) * width), (y + RIM) * columns + RIM);
    if (one.mask) soften(padded, columns, Math.ceil(grid.sharp));
    const relief = { grid, left: left - RIM - MARGIN, top: top - RIM - MARGIN, width: columns, height: rows, padded };
    reliefs.set(one, relief);
    return relief;
}

/** Make slopes of a mask's steps, since they tell how far the edge is; but no pixel changes sides. */
function soften(values, columns, reach) {
    const mask = values.slice();
    for (const step of [1, columns]) {
        const before = values.slice(), ahead = reach * step;
        for (let i = ahead; i < values.length - ahead; i++) {
            let sum = before[i];
            for (let k = step; k <= ahead; k += step) sum += before[i - k] + before[i + k];
            values[i] = sum / (2 * reach + 1);
        }
    }
    for (let i = 0; i < values.length; i++) values[i] = mask[i] > 32767 ? Math.max(values[i], 36_000) : Math.min(values[i], 29_000);
}

const levelOf = (one, threshold) => 65535 * (one.mask ? 0.5 : threshold); // a mask is cut already

/** Paint a mask into pixels, which are kept until its look changes. */
function spriteOf(one, color, look, grid, kept) {
    const last = kept.get(one);
    if (last?.key === look.key && last.grid === grid) return last;
    const { left, top, width, height, padded } = reliefOf(one, grid), pixels = last?.grid === grid ? last.pixels : new Int32Array(padded.length);
    const { reach, inside, table } = tableOf(color, look, grid.sharp), level = levelOf(one, look.threshold);
    // How far a pixel is from the outline follows from its value and from how steeply the values rise there.
    for (let y = 1; y < height - 1; y++)
        for (let x = 1, i = y * width + 1; x < width - 1; x++, i++) {
            const value = padded[i], above = value - level;
            const across = Math.max(Math.abs(padded[i + 1] - value), Math.abs(value - padded[i - 1]));
            const down = Math.max(Math.abs(padded[i + width] - value), Math.abs(value - padded[i - width]));
            const steep = Math.sqrt(across * across + down * down), far = reach * steep;
            if (above >= far) pixels[i] = inside;
            else if (above <= -far || (look.isDashed && !((x + y) & 4))) pixels[i] = 0;
            else pixels[i] = table[Math.round((above / steep + reach) * STEPS)];
        }
    const sprite = { key: look.key, grid, left, top, width, height, pixels };
    kept.set(one, sprite);
    return sprite;
}

/** For each distance from an outline, how much of the fill, of a dark rim and of the line lies there, as a pixel. */
function tableOf(color, { alpha, width }, sharp) {
    const key = [color, alpha, width, sharp].join(), half = (width / 2) * sharp, reach = width ? half + 0.9 * sharp + 0.5 : 0.5;
    if (tables.size > 500) tables.clear();
    if (!tables.has(key)) {
        const at = (distance) => coats(distance, half, color, alpha, sharp);
        const table = Int32Array.from({ length: Math.ceil(2 * reach * STEPS) + 2 }, (_, i) => at(i / STEPS - reach));
        tables.set(key, { reach, inside: at(1e3), table });
    }
    return tables.get(key);
}

/** The colour, as a pixel of ImageData, at a distance from the outline: positive inside. `half` of the line's width; 0 for none. */
function coats(distance, half, color, alpha, sharp) {
    const covered = (share) => Math.min(Math.max(share + 0.5, 0), 1);
    const fill = alpha * covered(distance), away = Math.abs(distance);
    const rim = half ? 0.5 * covered(half + 0.9 * sharp - away) : 0, line = half ? covered(half - away) : 0;
    const opacity = 1 - (1 - fill) * (1 - rim) * (1 - line);
    const [red, green, blue] = color.map((value) => Math.round(value * (fill * (1 - rim) * (1 - line) + line))); // the rest is black
    return pixel(red, green, blue, Math.round(255 * opacity));
}

const CELL = 4; // pixels: labels keep to a grid, on which it is quick to see what is free

/** The names of what is drawn, each with its sprite, where it covers no other; some find no place, and show when pointed at. */
function labelsOf(app, picture, drawn) {
    const { sharp, width, height } = app, found = [];
    const scale = app.scale * app.zoom, columns = Math.ceil(width / CELL) + 1, taken = new Uint8Array(columns * (Math.ceil(height / CELL) + 1));
    for (const one of drawn) {
        const pill = pillOf(app, nameOf(app, one, 24), colorOf(app, picture, one));
        const [w, hh] = [pill.width / sharp, pill.height / sharp];
        const frame = one.kind === "thing" ? frameOf(picture.things[one.row].mask) : picture.instances[one.row].box;
        const [x1, y1, x2, y2] = frame.map((value, i) => value * scale + (i % 2 ? app.panY : app.panX));
        if (x2 < 0 || y2 < 0 || x1 > width || y1 > height || x1 === x2 || y1 === y2) continue;
        const middle = (x1 + x2 - w) / 2;
        for (const [x, y] of [[x1, y1 - hh], [x2 - w, y1 - hh], [x1, y2], [x2 - w, y2], [x1, y1], [middle, (y1 + y2 - hh) / 2], [x1, y2 - hh]]) {
            const left = Math.round(Math.max(0, Math.min(x, width - w))), top = Math.round(Math.max(0, Math.min(y, height - hh)));
            if (!claim(taken, columns, left, top, w, hh)) continue;
            const sprite = placed(lookUp(picture, one), pill, Math.round(left * sharp), Math.round(top * sharp));
            found.push({ one, ...sprite, sprite });
            break;
        }
    }
    return found;
}

/** A pill at its place: the same sprite as before, if it is there already. */
function placed(one, pill, left, top) {
    const last = names.get(one);
    if (last?.pixels === pill.pixels && last.left === left && last.top === top) return last;
    names.set(one, { ...pill, left, top });
    return names.get(one);
}

const frameOf = ({ left, top, width, height }) => [left, top, left + width, top + height];

function claim(taken, columns, left, top, width, height) {
    const [x1, y1] = [Math.max(0, Math.floor(left / CELL)), Math.max(0, Math.floor(top / CELL))];
    const [x2, y2] = [Math.min(columns, Math.ceil((left + width) / CELL)), Math.min(taken.length / columns, Math.ceil((top + height) / CELL))];
    for (let y = y1; y < y2; y++) for (let x = x1; x < x2; x++) if (taken[y * columns + x]) return false;
    for (let y = y1; y < y2; y++) taken.fill(1, y * columns + x1, y * columns + x2);
    return true;
}

const FONT = "11px system-ui, sans-serif";

/** A name on a ground of its colour: as pixels, which are kept. */
function pillOf(app, text, color) {
    const key = `pill ${text} ${color}`, { sharp } = app;
    if (app.stamps.has(key)) return app.stamps.get(key);
    const context = (app.desk ??= new OffscreenCanvas(800, 40).getContext("2d", { willReadFrequently: true }));
    context.font = FONT;
    context.textBaseline = "middle";
    const wide = Math.ceil(context.measureText(text).width) + 8, width = Math.ceil(wide * sharp), height = Math.ceil(15 * sharp);
    context.setTransform(sharp, 0, 0, sharp, 0, 0);
    context.clearRect(0, 0, wide + 1, 16);
    context.fillStyle = css(color);
    context.beginPath();
    context.roundRect(0, 0, wide, 15, 4);
    context.fill();
    context.fillStyle = ink(color);
    context.fillText(text, 4, 8);
    const pixels = new Int32Array(context.getImageData(0, 0, width, height).data.buffer);
    for (let i = 0; i < pixels.length; i++) {
        const value = pixels[i], opacity = value >>> 24, times = (shift) => Math.round((((value >>> shift) & 255) * opacity) / 255);
        if (opacity < 255) pixels[i] = pixel(times(0), times(8), times(16), opacity); // at the corners
    }
    return keepStamp(app, key, { width, height, pixels });
}

/** Black or white, whichever stands out more (the contrast ratio of WCAG 2). */
function ink(color) {
    const [r, g, b] = color.map((v) => (v <= 10 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return (0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05) ** 2 > 1.05 * 0.05 ? "#000" : "#fff";
}

// ---- the strip of scores ------------------------------------------------------------------------

const PAD = 12; // pixels left and right of the strip's line
const LINE = 55; // pixels above it

const stripX = (app, score) => PAD + score * (app.stripWidth - 2 * PAD);

/** What the marks on the strip mean. */
function marks(app) {
    const kept = app.scene.has_target ? "dots: hits, crosses: false alarms" : "dots: kept";
    return `${kept}, rings: dropped${app.now.ignored.length ? " or ignored" : ""}`;
}

/** Where each instance of the chosen classes stands on the strip: in the hundredth of its score, stacked. */
function spots(app, picture) {
    const rows = [...app.now.kept, ...app.now.dropped], heights = new Array(100).fill(0);
    const column = (row) => Math.min(Math.floor(Number((100 * picture.instances[row].score).toFixed(4))), 99);
    for (const row of rows) heights[column(row)]++;
    const step = Math.min(9, 30 / Math.max(1, ...heights));
    heights.fill(0);
    return rows.map((row) => ({ row, x: stripX(app, (column(row) + 0.5) / 100), y: LINE - 7 - step * heights[column(row)]++ }));
}

function drawStrip(app, picture) {
    const { strip, view, sharp } = app, context = strip.getContext("2d"), text = getComputedStyle(app.root).color;
    context.setTransform(sharp, 0, 0, sharp, 0, 0);
    context.clearRect(0, 0, strip.width, strip.height);
    context.strokeStyle = context.fillStyle = text;
    context.lineWidth = 1;
    context.font = FONT;
    context.textAlign = "left";
    context.fillText(`score (${marks(app)})`, PAD, 10, app.stripWidth - 2 * PAD);
    context.textAlign = "center";
    context.fillRect(PAD, LINE, app.stripWidth - 2 * PAD, 1);
    for (const value of [0, 0.25, 0.5, 0.75, 1]) {
        context.fillRect(stripX(app, value), LINE, 1, 5);
        context.fillText(value, stripX(app, value), LINE + 16);
    }
    app.spots = spots(app, picture);
    for (const { row, x, y } of app.spots) {
        const color = css(app.scene.colors[picture.instances[row].label]);
        context.drawImage(markOf(app, app.verdicts[row], color, text), x - 6, y - 6, 12, 12);
    }
    for (const one of [app.picked, app.pointed]) {
        const spot = one?.kind === "instance" && app.spots.find(({ row }) => row === one.row);
        if (!spot) continue;
        context.lineWidth = 2;
        context.beginPath();
        context.arc(spot.x, spot.y, 8, 0, 7);
        context.stroke();
    }
    const at = stripX(app, view.score_threshold);
    context.fillStyle = text;
    context.fillRect(at - 1, 14, 2, LINE - 9);
    context.beginPath(); // the handle
    for (const [x, y] of [[-7, 14], [7, 14], [0, 24]]) context.lineTo(at + x, y);
    context.fill();
    if (app.cheapest) {
        context.fillStyle = "#D55E00";
        context.beginPath();
        for (const [x, y] of [[-5, LINE + 10], [5, LINE + 10], [0, LINE + 1]]) context.lineTo(stripX(app, app.cheapest) + x, y);
        context.fill();
    }
}

/** A mark on the strip: its class's colour, edged with the colour of the text, which stands out on any page. */
function markOf(app, verdict, color, text) {
    return kept(app, `mark ${verdict} ${color} ${text}`, 12, 12, (context) => {
        context.beginPath();
        if (verdict === "false alarm") {
            for (const [x, y] of [[2.5, 2.5], [2.5, 9.5]]) {
                context.moveTo(x, y);
                context.lineTo(12 - x, 12 - y);
            }
            edge(context, text, 4, color, 1.6);
            return;
        }
        const isDot = verdict === "hit" || verdict === "kept";
        context.arc(6, 6, isDot ? 4 : 3.2, 0, 7);
        context.fillStyle = color;
        if (isDot) context.fill();
        edge(context, text, isDot ? 1 : 2.6, isDot ? text : color, 1);
    });
}

function edge(context, ...inks) {
    for (let i = 0; i < inks.length; i += 2) {
        context.strokeStyle = inks[i];
        context.lineWidth = inks[i + 1];
        context.stroke();
    }
}

/** A small picture that is drawn once and kept. Sizes are in pixels of the page. */
function kept(app, key, width, height, draw) {
    if (app.stamps.has(key)) return app.stamps.get(key);
    const stamp = new OffscreenCanvas(Math.ceil(width * app.sharp), Math.ceil(height * app.sharp)), context = stamp.getContext("2d");
    context.scale(app.sharp, app.sharp);
    draw(context);
    return keepStamp(app, key, stamp.transferToImageBitmap()); // quicker to draw than a canvas
}

function keepStamp(app, key, stamp) {
    if (app.stamps.size > 5000) app.stamps.clear();
    app.stamps.set(key, stamp);
    return stamp;
}

function useStrip(app) {
    const { strip } = app;
    const place = (event) => {
        const corner = strip.getBoundingClientRect();
        return [event.clientX - corner.left, event.clientY - corner.top];
    };
    const near = ([x, y]) => {
        const apart = (spot) => Math.hypot(spot.x - x, spot.y - y);
        const best = app.spots.reduce((a, b) => (a && apart(a) <= apart(b) ? a : b), null);
        return best && apart(best) < NEAR ? { kind: "instance", row: best.row } : null;
    };
    let dot = null;
    const move = (event, moved) => {
        const at = place(event);
        if (event.type === "pointerdown") dot = near(at);
        if (dot && !moved) return; // a click on a dot opens its card
        dot = null;
        setThreshold(app, "score_threshold", (at[0] - PAD) / (app.stripWidth - 2 * PAD));
    };
    drag(strip, move, () => {
        if (dot) pick(app, dot);
        dot = null;
    });
    strip.addEventListener("pointermove", (event) => event.buttons || point(app, near(place(event)), event));
    strip.addEventListener("pointerleave", () => point(app, null));
}

// ---- precision, recall and what a miss costs ----------------------------------------------------

/** The instances of the chosen classes, best score first, of the shown picture or of all; without those in crowds. */
function ranked(app) {
    const { scene, view } = app, found = [];
    let total = 0;
    for (const picture of scene.several ? scene.pictures : [shownPicture(app)]) {
        const matches = matchesOf(app, picture);
        for (const { row, label, score } of picture.instances)
            if (view.classes.includes(label) && matches[row] !== -2) found.push({ score, hit: matches[row] >= 0 });
        total += picture.things.filter((thing) => !thing.crowd && view.classes.includes(thing.label)).length;
    }
    found.sort((a, b) => b.score - a.score);
    return { found, total };
}

const curvePlace = (recall, precision) => [34 + 150 * recall, 112 - 100 * precision];

function drawCurve(app) {
    const { scene, view } = app;
    if (scene.several && app.countedAt !== view.mask_threshold) return; // countAll comes first
    const counted = app.model?.get("counted") ?? null;
    if (app.best) {
        app.cheapest = cheapest(app);
        setText(app.best, `Cheapest threshold: ${app.cheapest.toFixed(2)}`);
    }
    const of = [view.mask_threshold, view.classes.join(), scene.several || view.picture, counted];
    if (!app.curveOf?.every((value, i) => value === of[i])) {
        app.curveOf = of;
        const { found, total } = ranked(app);
        const { precision, recall } = precisionRecall(found.map((one) => one.hit), total);
        app.ranking = { scores: found.map((one) => one.score), precision, recall, total };
        const points = Array.from(recall, (value, i) => curvePlace(value, precision[i]).map((v) => v.toFixed(1)).join());
        app.curveLine.setAttribute("points", total ? points.join(" ") : "");
    }
    const { scores, precision, recall, total } = app.ranking, at = Math.fround(view.score_threshold);
    const kept = scores.filter((score) => score >= at).length;
    app.curveDot.style.display = kept && total ? "" : "none";
    if (kept && total) {
        const [x, y] = curvePlace(recall[kept - 1], precision[kept - 1]);
        app.curveDot.setAttribute("cx", x);
        app.curveDot.setAttribute("cy", y);
    }
    const here = kept && total ? `here recall is ${recall[kept - 1].toFixed(2)} and precision ${precision[kept - 1].toFixed(2)}` : null;
    const why = total ? "nothing is kept" : "there is nothing to find";
    setText(app.curveNote, here ? "" : why);
    app.curveWords = `Precision over recall; ${here ?? why}`;
}

function cheapest({ scene, view }) {
    const { thresholds, best } = costs(scene, view, view.price);
    return thresholds[best];
}

/** Move the threshold to the point of the curve that is nearest to a pointer. */
function alongCurve(app, event) {
    const corner = app.curve.getBoundingClientRect(), { scores, precision, recall, total } = app.ranking ?? {};
    if (!total || !scores.length) return;
    const apart = scores.map((_, i) => {
        const [x, y] = curvePlace(recall[i], precision[i]);
        return Math.hypot(x - (event.clientX - corner.left), y - (event.clientY - corner.top));
    });
    const nearest = apart.indexOf(Math.min(...apart));
    setThreshold(app, "score_threshold", Math.floor(scores[nearest] * 100 + 1e-4) / 100);
}

/** Count hits and misses in all pictures, one after the other, so that sliders stay free meanwhile. */
function countAll(app, from = 0) {
    clearTimeout(app.counting);
    const { scene, view } = app, started = view.mask_threshold;
    if (scene.has_target && from < scene.pictures.length) {
        matchAll(scene.pictures[from], started);
        app.counting = setTimeout(() => countAll(app, view.mask_threshold === started ? from + 1 : 0));
        return;
    }
    app.countedAt = started;
    app.curveOf = null;
    change(app);
}

const alarmsOf = ({ kept, hits, ignored }) => kept.length - hits.length - ignored.length;

/** What all pictures come to, in words. */
function sumUp(app) {
    const { scene, view } = app, all = `All ${plural(scene.pictures.length, "picture")}`;
    if (app.countedAt !== view.mask_threshold) return `${all}: counting ...`;
    app.tallies = scene.pictures.map((picture) => tally(picture, view, matchesOf(app, picture)));
    app.mistakes = app.tallies.map((one) => view.price * one.missed.length + alarmsOf(one));
    const sum = (number) => app.tallies.reduce((total, one) => total + number(one), 0);
    if (!scene.has_target) return `${all}: ${sum((one) => one.kept.length)} kept.`;
    const [hits, alarms] = [plural(sum((one) => one.hits.length), "hit"), plural(sum(alarmsOf), "false alarm")];
    return `${all}, the worst first: ${hits}, ${alarms}, ${sum((one) => one.missed.length)} missed.`;
}

/** The pictures to choose from: radio buttons, so that arrow keys walk from one to the next. */
function gallery(app) {
    const name = `picture ${Math.random()}`;
    app.thumbs = app.scene.pictures.map(({ index, jpeg }) => {
        const image = h("img", { src: `data:image/jpeg;base64,${jpeg}`, alt: `Picture ${index + 1}`, draggable: "false" });
        const button = h("input", { type: "radio", name, class: "quiet", onchange: () => set(app, "picture", index) }), words = h("span");
        return { button, words, label: h("label", { class: "thumb" }, button, image, words) };
    });
    return (app.gallery = h("div", { class: "gallery", role: "radiogroup", "aria-label": "Pictures" }, ...app.thumbs.map(({ label }) => label)));
}

function sortGallery(app) {
    const order = app.scene.pictures.map(({ index }) => index), focused = app.thumbs.find(({ button }) => button.matches(":focus"));
    if (app.scene.has_target) order.sort((a, b) => app.mistakes[b] - app.mistakes[a]); // the worst first
    order.forEach((index, place) => {
        const { words, label } = app.thumbs[index], { kept, missed } = app.tallies[index], alarms = alarmsOf(app.tallies[index]);
        const mistakes = missed.length || alarms ? `${missed.length} missed\n${plural(alarms, "false alarm")}` : "no mistakes";
        setText(words, app.scene.has_target ? mistakes : `${kept.length} kept`);
        if (app.gallery.children[place] !== label) app.gallery.insertBefore(label, app.gallery.children[place]);
    });
    focused?.button.focus(); // which moving takes away
}

// ---- one instance -------------------------------------------------------------------------------

/** The card of what was picked: what it is, what became of it, and its mask under the lens. */
function drawCard(app, picture) {
    const { scene, picked, view } = app, isThing = picked.kind === "thing", one = lookUp(picture, picked);
    const key = [picked.kind, picked.row, view.mask_threshold, view.score_threshold, view.classes, app.matches].join();
    if (app.cardOf === key) return;
    app.cardOf = key;
    const swatch = h("span", { class: "swatch", style: `background: ${isThing ? "#fff" : css(scene.colors[one.label])}` });
    const title = h("span", { class: "tick" }, swatch, h("b", {}, scene.categories[one.label] + (isThing ? "" : ` ${twoDigits(one.score)}`)));
    const close = h("button", { type: "button", "aria-label": "Close the card", onclick: () => pick(app, null) }, "\u00D7");
    const facts = isThing ? factsOfThing(app, picture, one) : factsOfInstance(app, picture, one);
    const list = h("dl", {}, ...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
    const had = app.card.contains(app.card.getRootNode().activeElement);
    app.card.replaceChildren(h("div", { class: "line" }, title, close), list, ...(isThing ? [] : lens(app, picture, one)));
    if (had) close.focus();
}

const whole = (value) => Math.round(value).toLocaleString("en").replaceAll(",", "\u202F");

function factsOfInstance(app, picture, one) {
    const across = picture.fullWidth / picture.width, down = picture.fullHeight / picture.height;
    const [x1, y1, x2, y2] = one.box, verdict = app.verdicts[one.row];
    const share = (picture.fullWidth * picture.fullHeight) / (Math.min(picture.width, picture.fullWidth) * Math.min(picture.height, picture.fullHeight));
    const facts = [
        ["verdict", verdict === "dropped" ? "dropped: its score is below the threshold" : verdict],
        ["box", `${whole((x2 - x1) * across)} x ${whole((y2 - y1) * down)} at (${whole(x1 * across)}, ${whole(y1 * down)})`],
        ["area", `${whole(areaAbove(one, app.view.mask_threshold) * share)} pixels`],
    ];
    if (!picture.things?.length) return facts;
    const best = bestThing(app, picture, one.row);
    if (!best.iou) return [...facts, ["overlaps", "nothing that is there"]];
    const thing = picture.things[best.row], name = app.scene.categories[thing.label];
    const other = thing.label === one.label ? "" : `${name}, `;
    facts.push(["best match", `${other}${thing.crowd ? "crowd, " : ""}IoU ${best.iou.toFixed(2)}`]);
    const rival = app.matches.findIndex((row, i) => row === best.row && i !== one.row);
    if (app.matches[one.row] === -1 && thing.label !== one.label) facts.push(["why", `another class: the truth says ${name}`]);
    else if (app.matches[one.row] === -1 && best.iou < 0.5) facts.push(["why", "the mask doesn't fit well enough: a hit needs an IoU of 0.5"]);
    else if (app.matches[one.row] === -1 && rival >= 0)
        facts.push(["rival", `the one with score ${twoDigits(picture.instances[rival].score)} took its match`]);
    return facts;
}

function bestThing(app, picture, row) {
    let best = { row: -1, iou: 0 };
    for (const thing of picture.things) {
        const iou = overlap(picture.instances[row], thing, app.view.mask_threshold);
        if (iou > best.iou) best = { row: thing.row, iou };
    }
    return best;
}

function factsOfThing(app, picture, thing) {
    const isMissed = app.now.missed.includes(thing.row);
    const facts = [["verdict", isMissed ? "missed" : "found"], ["area", `${whole(thing.fullArea)} pixels`]];
    let best = null;
    for (const one of picture.instances) {
        const iou = overlap(one, thing, app.view.mask_threshold);
        if (iou > (best?.iou ?? 0)) best = { one, iou };
    }
    if (!best) return [...facts, ["why", "nothing was reported here"]];
    const { one, iou } = best, name = app.scene.categories[one.label];
    facts.push(["nearest", `${name} ${twoDigits(one.score)}, IoU ${iou.toFixed(2)}`]);
    if (!isMissed) return facts;
    if (iou < 0.5) facts.push(["why", "its mask doesn't fit well enough: a hit needs an IoU of 0.5"]);
    else if (one.label !== thing.label) facts.push(["why", "it was found under another name"]);
    else if (app.verdicts[one.row] === "dropped") facts.push(["why", "it was found, but below the score threshold"]);
    return facts;
}

/** The soft mask, enlarged: where it is cut, what is true, and the IoU for every place to cut. */
function lens(app, picture, one) {
    const field = one.soft(), at = app.view.mask_threshold, sharp = app.sharp;
    const canvas = h("canvas", { role: "img", "aria-label": lensWords(app, one), width: LENS * sharp, height: LENS * sharp });
    const context = canvas.getContext("2d"), [x1, y1, x2, y2] = one.box;
    // Some ground around the box, so that what it cuts off can be seen.
    const side = 1.3 * Math.max(x2 - x1, y2 - y1, 2), scale = (LENS * sharp) / side;
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.setTransform(scale, 0, 0, scale, -scale * ((x1 + x2 - side) / 2), -scale * ((y1 + y2 - side) / 2));
    context.imageSmoothingEnabled = false;
    if (one.small) context.drawImage(grey(one.small), x1, y1, x2 - x1, y2 - y1); // the numbers of the network itself
    else if (field.width) context.drawImage(grey(field), field.left, field.top);
    const line = (path, ink, width, dash = []) => {
        context.setLineDash(dash.map((length) => (length * sharp) / scale));
        for (const [color, more] of [["#000", 2], [ink, 0]]) {
            context.strokeStyle = color;
            context.lineWidth = ((width + more) * sharp) / scale;
            context.stroke(path);
        }
    };
    const box = new Path2D();
    box.rect(x1, y1, x2 - x1, y2 - y1);
    line(box, "#999", 1, [3, 3]);
    const thing = picture.things?.length ? bestThing(app, picture, one.row) : { row: -1 };
    if (thing.row >= 0) line(thingOutline(picture.things[thing.row]), "#fff", 1.5, [6, 3]);
    line(outline(one, at), css(app.scene.colors[one.label]), 2);
    const words = h("div", {}, `grey: ${one.mask ? "the mask" : "the soft mask"}; line: cut at ${at.toFixed(2)}; dots: the box` + (thing.row >= 0 ? "; dashes: the truth" : ""));
    if (thing.row < 0) return [canvas, words];
    const [plot, fit] = fitCurve(app, picture, one, thing);
    return [h("div", { class: "line lens" }, canvas, plot), fit, words];
}

const lensWords = (app, one) => `The soft mask of this ${app.scene.categories[one.label]}, with its outline at ${app.view.mask_threshold.toFixed(2)}`;

function grey({ width, height, values }) {
    const canvas = h("canvas", { width, height }), context = canvas.getContext("2d"), image = context.createImageData(width, height);
    for (let i = 0; i < values.length; i++) {
        image.data[4 * i] = image.data[4 * i + 1] = image.data[4 * i + 2] = values instanceof Uint8Array ? values[i] : values[i] >> 8;
        image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    return canvas;
}

/** The IoU with the truth over all mask thresholds, and where we stand. */
function fitCurve(app, picture, one, { row, iou }) {
    const values = iouCurve(picture, one.row, row), at = app.view.mask_threshold;
    const place = (threshold, value) => [20 + 100 * threshold, 96 - 88 * value];
    const points = Array.from(values, (value, i) => place((5 + i) / 100, value).map((v) => v.toFixed(1)).join()).join(" ");
    const best = values.indexOf(Math.max(...values)), [x, y] = place(at, iou), [, half] = place(0, 0.5);
    const words = `IoU ${iou.toFixed(2)} at ${at.toFixed(2)}; best ${values[best].toFixed(2)} at ${((5 + best) / 100).toFixed(2)}`;
    const text = (x, y, content, anchor) => s("text", { x, y, "text-anchor": anchor, fill: "currentColor" }, content);
    const plot = s(
        "svg",
        { role: "img", "aria-label": `IoU over the mask threshold: ${words}`, width: 124, height: 116 },
        s("path", { d: "M20 4V96H120", fill: "none", stroke: "currentColor" }),
        s("path", { d: `M20 ${half}H120`, fill: "none", stroke: "currentColor", "stroke-dasharray": "2 3" }),
        text(16, 12, "1", "end"), text(16, 99, "0", "end"), text(24, 12, "IoU", "start"), text(70, 112, "mask threshold", "middle"),
        s("polyline", { points, fill: "none", stroke: "currentColor", "stroke-width": 2 }),
        s("circle", { cx: x, cy: y, r: 5, fill: "#D55E00", stroke: "currentColor", "stroke-width": 1.5 }),
    );
    return [plot, h("div", {}, words)];
}

// ---- when nothing moves -------------------------------------------------------------------------

/** Once a person has stopped: what may come late. */
function stop(app) {
    if (app.scene.several && app.countedAt !== app.view.mask_threshold) return countAll(app); // and then stop again
    tell(app);
}

/** What is heard, and what is told of the whole. */
function tell(app) {
    const { scene, view } = app, picture = shownPicture(app);
    if (app.tallies) sortGallery(app);
    setText(app.status, app.message || `${app.words} ${app.sums.textContent}`.trim());
    const [score, mask] = [view.score_threshold.toFixed(2), view.mask_threshold.toFixed(2)];
    const classes = [...app.classes.values()].map(({ text }) => text.textContent).join("; ");
    app.image.alt = `The picture at score threshold ${score}, mask threshold ${mask}. ${app.words}${classes ? ` ${classes}.` : ""}`;
    const shown = plural(app.now.kept.length + app.now.dropped.length, "instance");
    app.strip.setAttribute("aria-label", `Scores of ${shown}; ${marks(app)}; the threshold is at ${score}`);
    app.curve?.setAttribute("aria-label", app.curveWords ?? "Precision over recall");
    listInstances(app);
}

/** Say something in the place of the counts, until these change. */
function say(app, text) {
    app.message = text;
    setText(app.status, text);
    setText(app.counts, text);
}

/** Fill the list of instances. Where it is right it is left alone: somebody may be looking through it. */
function listInstances(app) {
    const { now, picked, choice } = app, group = (label, kind, rows) => ({ label, ones: rows.map((row) => ({ kind, row })) });
    const groups = [group("Kept", "instance", now.kept), group("Dropped", "instance", now.dropped), group("Missed", "thing", now.missed)];
    if (picked?.kind === "thing" && !now.missed.includes(picked.row)) groups.push(group("Found", "thing", [picked.row]));
    const option = (one) => h("option", { value: `${one.kind} ${one.row}` }, nameOf(app, one));
    const lists = groups.filter(({ ones }) => ones.length).map(({ label, ones }) => h("optgroup", { label }, ...ones.map(option)));
    const all = h("select", {}, h("option", { value: "" }, "click one, or choose"), ...lists);
    if (all.innerHTML !== choice.innerHTML) choice.replaceChildren(...all.children);
    choice.value = picked ? `${picked.kind} ${picked.row}` : "";
}

function copyCode(app, button) {
    setText(app.code, asCode(app.scene, app.view)); // the frame that writes it may be still to come
    getSelection().selectAllChildren(app.code);
    document.execCommand("copy"); // needs no permission and no secure connection; and leaves the code selected
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy as code"), 2000);
}

/** Save what is shown: the kernel in full size; a page that has none, what the page has. */
function save(app) {
    if (app.model) {
        say(app, "Writing ...");
        app.model.send({ type: "save" });
        return;
    }
    const { canvas } = app;
    canvas.toBlob((blob) => {
        const link = h("a", { href: URL.createObjectURL(blob), download: "explored.png" });
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers fetch it late
        say(app, `Saved explored.png, ${canvas.width} x ${canvas.height} pixels, among your downloads.`);
    });
}

// -----------------------------------------------------------------------------------------------------------
// Arithmetic: from the payload to masks, outlines, matches and counts. Nothing here touches the page.
// Masks and soft values are a rectangle of the picture: its corner is (left, top), `values` go row by row.

// Makes a function that keeps, for each owner, its result for the last threshold. Callers must not change it.
function keepLast(make) {
    const kept = new WeakMap();
    return (owner, threshold) => {
        let last = kept.get(owner);
        if (!last || last.threshold !== threshold) {
            last = { threshold, result: make(owner, threshold) };
            kept.set(owner, last);
        }
        return last.result;
    };
}

// --- The payload -------------------------------------------------------------------------------------------

export function unpack(payload) {
    return { ...payload, pictures: payload.pictures.map(unpackPicture) };
}

function unpackPicture(packed, index) {
    const [width, height] = packed.size, [fullWidth, fullHeight] = packed.full_size;
    const across = comparedPixels(width, fullWidth), down = comparedPixels(height, fullHeight);
    const masks = unpackMasks(packed, across, down);
    const instances = packed.labels.map((label, row) => ({
        row, label, score: packed.scores[row], box: packed.boxes[row], ...masks[row],
    }));
    const things = packed.things && packed.things.labels.map((label, row) => {
        const mask = decodeRle(packed.things.rle[row], width, height);
        const box = [mask.left, mask.top, mask.left + mask.width, mask.top + mask.height];
        const crowd = Boolean(packed.things.crowds[row]), fullArea = packed.things.full_areas[row];
        const compared = takeFrom(mask, across.shown, down.shown);
        return { row, label, crowd, box, area: mask.area, fullArea, mask, compared };
    });
    return { index, width, height, fullWidth, fullHeight, jpeg: packed.jpeg, instances, things };
}

// Masks are drawn at the shown size, but compared as they are in full size, as in Python: at every pixel if
// the picture is shown no smaller than it is, else at those that the shown truth was taken from. Gives, for
// columns or for rows, the numbers of these pixels in full size, and in the shown size.
function comparedPixels(shown, full) {
    const count = Math.min(shown, full);
    const numbers = { full: new Int32Array(count), shown: new Int32Array(count) };
    for (let i = 0; i < count; i++) {
        numbers.full[i] = ((i + 0.5) * full) / count;
        numbers.shown[i] = ((i + 0.5) * shown) / count;
    }
    return numbers;
}

// Of a mask or of soft values, what lies in some columns and rows.
function takeFrom(whole, columns, rows) {
    if (columns.at(-1) === columns.length - 1 && rows.at(-1) === rows.length - 1) return whole; // in all of them
    const { left, top, width, height, values } = whole, across = within(columns, left, left + width - 1), down = within(rows, top, top + height - 1);
    const size = { width: across.inside.length, height: down.inside.length };
    const taken = new values.constructor(size.width * size.height);
    let area = 0, i = 0;
    for (const y of down.inside) {
        for (const x of across.inside) area += taken[i++] = values[(y - top) * width + x - left];
    }
    return { left: across.from, top: down.from, ...size, values: taken, area };
}

// Those of increasing numbers that lie between two, and where they begin.
function within(numbers, first, last) {
    const from = countBelow(numbers, first);
    return { from, inside: numbers.subarray(from, Math.max(from, countBelow(numbers, last + 1))) };
}

function countBelow(numbers, limit) {
    let low = 0, high = numbers.length;
    while (low < high) {
        const middle = (low + high) >> 1;
        if (numbers[middle] < limit) low = middle + 1;
        else high = middle;
    }
    return low;
}

// For each instance two functions that give its soft values: `soft` as they are shown, `compared` as they are
// compared. Also `small`, the values of the network, or `mask`, if that is what there is.
function unpackMasks({ masks, boxes, size, full_size: fullSize }, across, down) {
    const [width, height] = size;
    const lazy = (make) => {
        let made = null;
        return () => (made ??= make());
    };
    const both = (make) => {
        const soft = lazy(make);
        return { soft, compared: lazy(() => takeFrom(soft(), across.shown, down.shown)) };
    };
    if (masks.kind === "boolean") {
        return masks.rle.map((text) => {
            const mask = decodeRle(text, width, height);
            const soft = () => ({ ...mask, values: Uint16Array.from(mask.values, (v) => 65535 * v) });
            return { mask, ...both(soft) };
        });
    }
    const values = fromBase64(masks.values);
    let end = 0;
    const next = (count) => values.subarray(end, (end += count));
    if (masks.kind === "roi") {
        const columns = Int32Array.from({ length: width }, (_, x) => x);
        const rows = Int32Array.from({ length: height }, (_, y) => y);
        const scales = size.map((side, i) => Math.fround(side / fullSize[i]));
        return (masks.boxes ?? boxes).map((box) => {
            const side = masks.side, small = { box, width: side, height: side, values: next(side * side) };
            const fullBox = box.map((value, i) => unscaled(value, scales[i % 2]));
            return {
                small,
                soft: lazy(() => enlarge(small.values, side, box, columns, rows)),
                compared: lazy(() => enlarge(small.values, side, fullBox, across.full, down.full)),
            };
        });
    }
    return masks.frames.map(([left, top, width, height]) => {
        const probs = next(width * height);
        return both(() => ({ left, top, width, height, values: Uint16Array.from(probs, (v) => 257 * v) }));
    });
}

// The float32 that was scaled to this one. Where it can be whole it is: whole numbers stay on their pixel.
function unscaled(value, scale) {
    const whole = Math.round(value / scale);
    return Math.fround(whole * scale) === value ? whole : value / scale;
}

function fromBase64(text) {
    const letters = atob(text);
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
    return bytes;
}

// COCO's compressed run lengths, column by column (see segutils/rle.py), as a rectangle around the pixels.
export function decodeRle(text, width, height) {
    const counts = [];
    for (let at = 0; at < text.length; ) {
        let value = 0, shift = 0, bits;
        do {
            bits = text.charCodeAt(at++) - 48;
            value |= (bits & 31) << shift;
            shift += 5;
        } while (bits & 32);
        if (bits & 16) value |= -1 << shift; // a negative number
        counts.push(counts.length > 2 ? value + counts[counts.length - 2] : value);
    }
    let left = width, right = 0, top = height, bottom = 0, area = 0;
    const eachRun = (act) => {
        for (let i = 1, start = counts[0]; i < counts.length; i += 2) {
            if (counts[i] > 0) act(start, start + counts[i]);
            start += counts[i] + counts[i + 1];
        }
    };
    eachRun((start, end) => {
        const column = Math.floor(start / height), last = Math.floor((end - 1) / height);
        left = Math.min(left, column);
        right = last + 1;
        // A run that goes on in the next column reaches the foot of one and the head of the other.
        top = column < last ? 0 : Math.min(top, start % height);
        bottom = column < last ? height : Math.max(bottom, ((end - 1) % height) + 1);
        area += end - start;
    });
    if (area === 0) return { left: 0, top: 0, width: 0, height: 0, values: new Uint8Array(), area };
    const columns = right - left, rows = bottom - top, values = new Uint8Array(columns * rows);
    eachRun((start, end) => {
        for (let place = start, x = Math.floor(start / height) - left; place < end; x++) {
            let y = (place % height) - top;
            const stop = Math.min(y + end - place, height - top);
            place += stop - y;
            for (; y < stop; y++) values[y * columns + x] = 1;
        }
    });
    return { left, top, width: columns, height: rows, values, area };
}

// --- Masks -------------------------------------------------------------------------------------------------

// Put side x side probabilities (uint8) into their box as torchvision does: a rim of zeros, the box larger by
// as much and in whole pixels, bilinear. Gives 0 to 65535, of those of the columns and rows that it reaches.
export function enlarge(probs, side, box, columns, rows) {
    return stretch({ width: side, height: side, values: probs }, expandBox(box, side), columns, rows, 257);
}

// The soft values of an instance, or the mask of a thing, at columns and rows that need not be whole.
function valuesOn({ small, mask, soft }, columns, rows) {
    if (small) return enlarge(small.values, small.width, small.box, columns, rows);
    const whole = mask ?? soft(), { left, top, width, height } = whole;
    return stretch(whole, [left - 1, top - 1, left + width, top + height], columns, rows, mask ? 65535 : 1);
}

// Stretch values, with a rim of zeros, over the pixels x1..x2 and y1..y2, each times `unit`.
function stretch({ width: from, height: count, values: given }, [x1, y1, x2, y2], columns, rows, unit) {
    const across = placesBetween(from + 2, x1, x2, columns), down = placesBetween(count + 2, y1, y2, rows);
    const width = across.share.length, height = down.share.length;
    // First each row in the new width. The rim, and what lies behind it, stays 0.
    const wide = new Float64Array((count + 3) * width), line = new Float64Array(from + 3);
    for (let row = 0, i = width; row < count; row++) {
        for (let x = 0; x < from; x++) line[x + 1] = unit * given[row * from + x];
        for (let x = 0; x < width; x++) wide[i++] = mix(line, across.first[x], 1, across.share[x]);
    }
    const values = new Uint16Array(width * height);
    for (let y = 0, i = 0; y < height; y++) {
        const above = down.first[y] * width, share = down.share[y];
        for (let x = 0; x < width; x++) values[i++] = mix(wide, above + x, width, share) + 0.5;
    }
    return { left: across.from, top: down.from, width, height, values };
}

const mix = (values, at, step, share) => values[at] + share * (values[at + step] - values[at]);

// torchvision's expand_boxes in float32, then whole numbers: the first and the last pixel each way.
function expandBox(box, side) {
    const f = Math.fround;
    const [x1, y1, x2, y2] = box.map(f), scale = f((side + 2) / side);
    const [halfX, halfY] = [f(x2 - x1), f(y2 - y1)].map((length) => f(f(length * 0.5) * scale));
    const [x, y] = [f(x2 + x1), f(y2 + y1)].map((sum) => f(sum * 0.5));
    return [f(x - halfX), f(y - halfY), f(x + halfX), f(y + halfY)].map(Math.trunc);
}

// `side` values are stretched over the pixels start..end. Where those of some pixels that are in there, from
// number `from` on, lie among them: each between the value `first` and the next, at the `share` of the way.
function placesBetween(side, start, end, pixels) {
    const { from, inside } = within(pixels, start, end), step = side / (end - start + 1);
    const first = new Int32Array(inside.length), share = new Float64Array(inside.length);
    for (let i = 0; i < inside.length; i++) {
        const place = Math.min(Math.max((inside[i] - start + 0.5) * step - 0.5, 0), side - 1);
        first[i] = place;
        share[i] = place - first[i];
    }
    return { from, first, share };
}

export const cut = keepLast((instance, threshold) => {
    if (instance.mask) return instance.mask;
    const { left, top, width, height, values } = instance.soft();
    const mask = new Uint8Array(values.length);
    const level = Math.floor(threshold * 65535); // whole numbers are compared faster
    let area = 0;
    for (let i = 0; i < values.length; i++) area += mask[i] = values[i] > level ? 1 : 0;
    return { left, top, width, height, values: mask, area };
});

// Marching squares: a ring goes from one place where the values cross the level to the next, with what is
// above on its right. A place is known by the pixel above the level and the side (0 left, 1 up, 2 right,
// 3 down) on which its neighbour is not.
export function contour({ left, top, width, height, values }, level) {
    const path = new Path2D(), passed = new Uint8Array(width * height);
    const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : values[y * width + x]);
    // Every ring has a pixel that it passes on the left.
    for (let row = 0, i = 0; row < height; row++) {
        for (let column = 0, before = false; column < width; column++, i++) {
            const here = values[i] > level;
            if (here && !before && !passed[i]) {
                let x = column, y = row, side = 0, inside = values[i], outside = at(x - 1, y), open = false;
                do {
                    if (side === 0) passed[y * width + x] = 1;
                    const toX = SIDE_X[side], toY = SIDE_Y[side];
                    const share = (inside - level) / (inside - outside);
                    const px = left + x + 0.5 + share * toX, py = top + y + 0.5 + share * toY;
                    if (open) path.lineTo(px, py);
                    else path.moveTo(px, py);
                    open = true;
                    // The next two along the ring: beside the pixel, and beside its neighbour.
                    const turned = (side + 1) & 3, aheadX = SIDE_X[turned], aheadY = SIDE_Y[turned];
                    const near = at(x + aheadX, y + aheadY), far = at(x + aheadX + toX, y + aheadY + toY);
                    if (far > level && (near > level || inside + outside + near + far > 4 * level)) {
                        // Around the neighbour, to its other side. (Where two opposite corners of the four
                        // are above, they belong together if the mean is above as well.)
                        x += aheadX + toX;
                        y += aheadY + toY;
                        side = (side + 3) & 3;
                        inside = far;
                    } else if (near > level) {
                        x += aheadX;
                        y += aheadY;
                        inside = near;
                        outside = far;
                    } else {
                        side = turned;
                        outside = near;
                    }
                } while (x !== column || y !== row || side !== 0);
                path.closePath();
            }
            before = here;
        }
    }
    return path;
}

const SIDE_X = [-1, 0, 1, 0], SIDE_Y = [0, -1, 0, 1];

export const outline = keepLast((instance, threshold) =>
    instance.mask ? contour(instance.mask, 0.5) : contour(instance.soft(), threshold * 65535),
);

export const thingOutline = keepLast((thing) => contour(thing.mask, 0.5));

// --- Matching ----------------------------------------------------------------------------------------------

// Increasing thresholds, and for each soft value how many of them it is above: with it, pixels are looked at
// once, not again for each threshold.
function scaleOf(thresholds) {
    const passed = new Uint8Array(65536);
    thresholds.forEach((threshold, i) => passed.fill(i + 1, Math.floor(threshold * 65535) + 1));
    return { thresholds, passed };
}

const HUNDREDTHS = scaleOf(Array.from({ length: 91 }, (_, i) => (i + 5) / 100)); // 0.05 to 0.95
let single = scaleOf([0.5]); // the last one
const scaleFor = (threshold) => (single.thresholds[0] === threshold ? single : (single = scaleOf([threshold])));

// From how many pixels are above just 0, 1, 2 ... of the thresholds to how many are above each.
function addUp(counts) {
    for (let i = counts.length - 1; i > 0; i--) counts[i - 1] += counts[i];
    return counts.subarray(1);
}

const areasAbove = keepLast((instance, { thresholds, passed }) => {
    const { values } = instance.compared(), counts = new Uint32Array(thresholds.length + 1);
    for (let i = 0; i < values.length; i++) counts[passed[values[i]]]++;
    return addUp(counts);
});

// The pixels above a threshold, of those that are compared.
export function areaAbove(instance, threshold) {
    const step = HUNDREDTHS.thresholds.indexOf(threshold);
    return step >= 0 ? areasAbove(instance, HUNDREDTHS)[step] : areasAbove(instance, scaleFor(threshold))[0];
}

// IoU of an instance and a thing for each threshold; of a crowd region, the share of the instance within it.
function overlaps(instance, thing, scale) {
    const { left, top, width, height, values } = instance.compared(), other = thing.compared;
    const start = Math.max(left, other.left), end = Math.min(left + width, other.left + other.width);
    const first = Math.max(top, other.top), last = Math.min(top + height, other.top + other.height);
    const { passed, thresholds } = scale, inside = other.values;
    const counts = new Uint32Array(thresholds.length + 1);
    for (let y = first; y < last; y++) {
        let i = (y - top) * width + start - left, j = (y - other.top) * other.width + start - other.left;
        for (let x = start; x < end; x++) counts[passed[values[i++]]] += inside[j++];
    }
    const areas = areasAbove(instance, scale), shared = addUp(counts), iou = new Float64Array(areas.length);
    for (let k = 0; k < iou.length; k++) {
        iou[k] = shared[k] / Math.max(thing.crowd ? areas[k] : areas[k] + other.area - shared[k], 1);
    }
    return iou;
}

export function overlap(instance, thing, threshold) {
    return overlaps(instance, thing, scaleFor(threshold))[0];
}

// For the mask thresholds 0.05, 0.06 ... 0.95.
export function iouCurve({ instances, things }, row, thingRow) {
    return overlaps(instances[row], things[thingRow], HUNDREDTHS);
}

// What `overlap` is for each instance and each thing of its class; 0 for other classes.
export const ious = keepLast((picture, threshold) => {
    const iou = new Float64Array(picture.instances.length * picture.things.length);
    const step = HUNDREDTHS.thresholds.indexOf(threshold);
    for (const pair of neighbours(picture)) {
        if (step >= 0) pair.curve ??= overlaps(pair.instance, pair.thing, HUNDREDTHS);
        iou[pair.place] = step >= 0 ? pair.curve[step] : overlap(pair.instance, pair.thing, threshold);
    }
    return iou;
});

// The instances and things of one class whose rectangles meet.
const neighbours = keepLast(({ instances, things }) => {
    const pairs = [];
    for (const instance of instances) {
        const { left, top, width, height } = instance.compared();
        for (const thing of things) {
            const other = thing.compared;
            const meet = other.left < left + width && left < other.left + other.width
                && other.top < top + height && top < other.top + other.height;
            if (!meet || thing.label !== instance.label) continue;
            pairs.push({ instance, thing, place: instance.row * things.length + thing.row, curve: null });
        }
    }
    return pairs;
});

// As evaluation.match_instances: for each instance the row of its thing, -1 without, -2 in a crowd region.
export const matchAll = keepLast((picture, threshold) => {
    const { instances, things } = picture;
    const iou = ious(picture, threshold), matches = new Int32Array(instances.length).fill(-1);
    const taken = new Uint8Array(things.length);
    for (const { row } of bestFirst(instances)) {
        let best = 0.5, inCrowd = false;
        for (let j = 0; j < things.length; j++) {
            const value = iou[row * things.length + j];
            if (value < best || taken[j]) continue;
            if (things[j].crowd) inCrowd = true;
            else [best, matches[row]] = [value, j]; // of equal ones the last, as in COCO's own tools
        }
        if (matches[row] >= 0) taken[matches[row]] = 1;
        else if (inCrowd) matches[row] = -2;
    }
    return matches;
});

const bestFirst = (instances) => [...instances].sort((a, b) => b.score - a.score);

// What a view keeps, drops and misses. Instances are rows, best score first; matches: null without a target.
export function tally({ instances, things }, view, matches) {
    const chosen = bestFirst(instances).filter(({ label }) => view.classes.includes(label));
    // Scores are float32: 0.9 among them is less than JavaScript's 0.9, which has more digits.
    const likely = Math.fround(view.score_threshold);
    const rows = (some) => some.map(({ row }) => row);
    const kept = rows(chosen.filter(({ score }) => score >= likely));
    const dropped = rows(chosen).slice(kept.length);
    if (!matches) return { kept, dropped, hits: [], ignored: [], missed: [], total: 0 };
    const hits = kept.filter((row) => matches[row] >= 0), found = new Set(hits.map((row) => matches[row]));
    const wanted = rows(things.filter(({ label, crowd }) => !crowd && view.classes.includes(label)));
    return {
        kept, dropped, hits,
        ignored: kept.filter((row) => matches[row] === -2), // neither hits nor false alarms
        missed: wanted.filter((row) => !found.has(row)),
        total: wanted.length,
    };
}

// When only the first k are kept, for k = 1 to N. hits: of booleans, best score first.
export function precisionRecall(hits, total) {
    let count = 0;
    const ranked = Array.from(hits, (hit) => (count += hit ? 1 : 0));
    return { precision: ranked.map((n, i) => n / (i + 1)), recall: ranked.map((n) => n / total) };
}

// What the mistakes in all pictures cost at the score thresholds 0.05, 0.06 ... 1: price * misses + false
// alarms of the chosen classes. best: the index of the first lowest. counted: by picture, matches that are
// better than matchAll's, where there are any.
export function costs(scene, view, price, counted = []) {
    const thresholds = Float64Array.from({ length: 96 }, (_, i) => (i + 5) / 100);
    const misses = new Float64Array(thresholds.length), alarms = new Float64Array(thresholds.length);
    for (const picture of scene.pictures) {
        const matches = counted[picture.index] ?? matchAll(picture, view.mask_threshold);
        const things = picture.things.filter(({ label, crowd }) => !crowd && view.classes.includes(label));
        misses.forEach((_, i) => (misses[i] += things.length));
        for (const { row, label, score } of picture.instances) {
            if (!view.classes.includes(label)) continue;
            for (let i = 0; i < thresholds.length && score >= Math.fround(thresholds[i]); i++) {
                if (matches[row] >= 0) misses[i]--;
                if (matches[row] === -1) alarms[i]++;
            }
        }
    }
    const cost = misses.map((count, i) => price * count + alarms[i]);
    return { thresholds, cost, best: cost.indexOf(Math.min(...cost)) };
}

// --- Words -------------------------------------------------------------------------------------------------

// A number as Python's f"{value:.2f}" writes it: of two as close, the even one.
export function twoDigits(value) {
    return (value === 0.125 || value === 0.625 ? value - 0.005 : value).toFixed(2);
}

export function describe({ kept, dropped, hits, ignored, missed, total }, hasTarget) {
    const text = `Kept ${kept.length} of ${plural(kept.length + dropped.length, "instance")}`;
    if (!hasTarget) return `${text}.`;
    const judged = kept.length - ignored.length;
    const precision = judged ? twoDigits(hits.length / judged) : "undefined (nothing is kept)";
    const recall = total ? twoDigits(hits.length / total) : "undefined (there is nothing to find)";
    const passedOver = ignored.length ? `, ${ignored.length} ignored in crowd regions` : "";
    return (
        `${text}: ${plural(hits.length, "hit")}, ${plural(judged - hits.length, "false alarm")}, ` +
        `${missed.length} missed${passedOver}. Precision ${precision}, recall ${recall}.`
    );
}

// The two lines of Python that draw a view.
export function asCode({ classes, categories, several }, view) {
    const [image, prediction] = several ? [`images[${view.picture}]`, `predictions[${view.picture}]`] : ["image", "prediction"];
    const python = (value) => {
        if (typeof value === "boolean") return value ? "True" : "False";
        return Number.isInteger(value) ? value.toFixed(1) : String(value);
    };
    const labels = [...view.classes].sort((a, b) => a - b), all = labels.length === classes.length;
    const names = labels.map((label) => categories[label].trim().split(/\s+/).join(" ")).join(", ");
    const usual = { mask_threshold: 0.5, alpha: 0.45 };
    for (const name of ["masks", "outlines", "boxes", "labels"]) usual[name] = true;
    const changed = Object.keys(usual).filter((name) => view[name] !== usual[name]);
    const options = changed.map((name) => `, ${name}=${python(view[name])}`).join("");
    return (
        `kept = filter_model_output([${prediction}], ${python(view.score_threshold)}` +
        `${all ? "" : `, labels=[${labels.join(", ")}]`})[0]${!all && names ? `  # ${names}` : ""}\n` +
        `show(draw_instances(${image}, kept, categories${options}))`
    );
}
