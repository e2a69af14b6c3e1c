// A cross-hair over each chart: the values at the nearest point. The page reads well without it.
for (const svg of document.querySelectorAll("svg[data-chart]")) {
  const chart = JSON.parse(svg.dataset.chart);
  const [left, top, right, bottom] = chart.box;
  const cross = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const tip = document.createElement("div");
  cross.setAttribute("class", "cross");
  tip.className = "tip";
  tip.hidden = true;
  svg.append(cross);
  svg.parentElement.append(tip);
  const width = svg.viewBox.baseVal.width;
  const show = (event) => {
    const frame = svg.getBoundingClientRect();
    const at = ((event.clientX - frame.left) / frame.width) * width;
    if (at < left - 8 || at > right + 8) return hide();
    const near = chart.lines.map((line) => [line, line.points.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a))]);
    const x = near.reduce((a, b) => (Math.abs(b[1][0] - at) < Math.abs(a[1][0] - at) ? b : a))[1];
    cross.setAttribute("d", `M${x[0]} ${top}V${bottom}`);
    tip.replaceChildren(...[`${x[2]} ${chart.x}`, ...near.map(([line, point]) => `${line.name} ${point[3]}`)].map((text) => {
      const row = document.createElement("div");
      row.textContent = text;
      return row;
    }));
    tip.hidden = false;
    const px = (x[0] / width) * frame.width;
    tip.style.left = `${Math.min(Math.max(px + 10, 0), frame.width - tip.offsetWidth)}px`;
    const above = frame.top - svg.parentElement.getBoundingClientRect().top;
    tip.style.top = `${above + (top / svg.viewBox.baseVal.height) * frame.height + 8}px`;
  };
  const hide = () => { tip.hidden = true; cross.removeAttribute("d"); };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", hide);
}
// In the dashboard's frame a link to an anchor would load the dashboard into the frame: scroll instead.
for (const link of document.querySelectorAll('nav a[href^="#"]')) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    document.querySelector(link.getAttribute("href")).scrollIntoView();
  });
}
