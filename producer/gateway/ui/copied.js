// The same kickoff once more, as a command.
const quoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;

function body(kickoff, request) {
  const whole = { crew: kickoff.crew, inputs: request?.inputs ?? {} };
  if (kickoff.meta) whole.meta = kickoff.meta;
  if (request?.timeout_s) whole.timeout_s = request.timeout_s;
  if (request?.then) whole.then = request.then;
  return whole;
}

// The token is not in it: a shell keeps what is typed.
export const asCurl = (kickoff, request) => `curl ${location.origin}/v1/kickoffs -H "Authorization: Bearer $TOKEN" -d ${quoted(JSON.stringify(body(kickoff, request)))}`;

export function asCli(kickoff, request) {
  const words = ['crewfleet', 'kickoff', kickoff.crew];
  for (const [name, value] of Object.entries(request?.inputs ?? {})) {
    // A text that begins with @ would be a file.
    const isText = typeof value === 'string' && !value.startsWith('@');
    words.push('-i', quoted(isText ? `${name}=${value}` : `${name}:=${JSON.stringify(value)}`));
  }
  if (kickoff.meta) words.push('--meta', quoted(JSON.stringify(kickoff.meta)));
  for (const step of request?.then ?? []) words.push('--then', quoted(JSON.stringify(step)));
  words.push('--follow');
  return words.join(' ');
}
