// Small lines in a row, and charts over time.
import { html, useEffect, useRef } from './html.js';
import uPlot from './vendor/uplot.js';
import { compact } from './format.js';

// A line without axes; `bad` is drawn into it.
export function Sparkline({ values, bad, label, width = 120, height = 26 }) {
  const most = Math.max(1, ...values);
  const x = (place) => (place * width) / Math.max(values.length - 1, 1);
  const y = (value) => height - 2 - (value / most) * (height - 5);
  const line = (of) => of.map((value, place) => `${place ? 'L' : 'M'}${x(place).toFixed(1)} ${y(value).toFixed(1)}`).join('');
  return html`<svg class="spark" width=${width} height=${height} viewBox="0 0 ${width} ${height}" role="img" aria-label=${label}>
    <path class="area" d="${line(values)}L${width} ${height}L0 ${height}Z" />
    <path class="line" d=${line(values)} />
    ${bad?.some((value) => value > 0) && html`<path class="bad" d=${line(bad)} />`}
  </svg>`;
}

// Bars, for a trend in a row.
export function Bars({ values, label, width = 120, height = 26 }) {
  const most = Math.max(1, ...values);
  const wide = width / values.length;
  return html`<svg class="spark bars" width=${width} height=${height} viewBox="0 0 ${width} ${height}" role="img" aria-label=${label}>
    ${values.map((value, place) => {
      const high = value ? Math.max((value / most) * (height - 2), 2) : 1;
      return html`<rect key=${place} class=${value ? 'some' : 'none'} x=${place * wide + 0.5} y=${height - high} width=${Math.max(wide - 1, 1)} height=${high} />`;
    })}
  </svg>`;
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const HUES = ['--bar-task', '--bar-llm', '--bar-tool', '--bar-agent', '--info', '--ok', '--bad', '--bar-attempt'];

const hour = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
// The day where it changes, else the hour.
function clockOf(tick, ticks, place) {
  const isMidnight = new Date(tick * 1000).getHours() === 0 && ticks[1] - ticks[0] < 86400;
  return isMidnight || ticks[1] - ticks[0] >= 86400 || (place === 0 && ticks[ticks.length - 1] - tick > 86400) ? day.format(tick * 1000) : hour.format(tick * 1000);
}

// Series over time, stacked: `times` in seconds, `series` as [{ name, values }].
export function TimeChart({ times, series, label, height = 220 }) {
  const at = useRef(null);
  useEffect(() => {
    const draw = () => {
      const [text, line, panel] = ['--text-3', '--line', '--raised'].map(color);
      const sums = times.map(() => 0);
      const stacked = series.map(({ values }) => values.map((value, place) => (sums[place] += Math.max(value, 0))));
      const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: '12px system-ui' };
      const bars = uPlot.paths.bars({ size: [0.8, 40], radius: 0.12 });
      const options = {
        width: Math.max(at.current.clientWidth, 200),
        height,
        padding: [10, 4, 0, 0],
        legend: { show: false },
        cursor: { points: { show: false }, drag: { x: false, y: false } },
        scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.08, 1)] } },
        axes: [{ ...axis, grid: { show: false }, values: (_, ticks) => ticks.map((tick, place) => clockOf(tick, ticks, place)) }, { ...axis, size: 54, values: (_, values) => values.map(compact) }],
        // The highest first: those that come after it are drawn over it.
        series: [{}, ...series.map((_, place) => ({ fill: color(HUES[place % HUES.length]), stroke: panel, width: 0, paths: bars, points: { show: false } })).reverse()],
      };
      return new uPlot(options, [times, ...stacked.reverse()], at.current);
    };
    let chart = draw();
    const again = () => {
      chart.destroy();
      if (at.current) chart = draw();
    };
    const resized = new ResizeObserver(() => at.current && Math.abs(chart.width - at.current.clientWidth) > 1 && again());
    resized.observe(at.current);
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    scheme.addEventListener('change', again);
    return () => (resized.disconnect(), scheme.removeEventListener('change', again), chart.destroy());
  }, [JSON.stringify([times, series]), height]);
  return html`<figure>
    <div ref=${at} role="img" aria-label=${label}></div>
    ${series.length > 1 && html`<figcaption class="legend">${series.map(({ name }, place) => html`<span key=${name}><i style=${{ background: `var(${HUES[place % HUES.length]})` }}></i>${name}</span>`)}</figcaption>`}
  </figure>`;
}
