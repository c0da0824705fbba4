import { html } from './html.js'; export const Spend = () => html`<h1>Spend</h1>`;
