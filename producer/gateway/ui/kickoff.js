import { html } from './html.js'; export const Kickoff = () => html`<h1>Kickoff</h1>`;
