import { html } from './html.js'; export const Kickoffs = () => html`<h1>Kickoffs</h1>`;
