// What a form is made of: the JSON Schema of a crew's inputs, else their names.

// { name, kind, title, description, required, options, fallback, … } of each input, in the order of its author.
export function fieldsOf(crew) {
  const schema = crew.inputs_schema;
  const required = new Set([...(schema?.required ?? []), ...(crew.required_inputs ?? [])]);
  if (schema?.properties) {
    const fields = Object.entries(schema.properties).map(([name, of]) => fieldOf(name, resolved(of, schema), required.has(name)));
    const others = (crew.inputs ?? []).filter((name) => !schema.properties[name]);
    return [...fields, ...others.map((name) => plain(name, required.has(name)))];
  }
  return (crew.inputs ?? []).map((name) => plain(name, required.has(name)));
}

const plain = (name, required) => ({ name, kind: 'text', title: name, required, options: null, fallback: undefined, of: {} });

// References within the document, and what may also be null.
function resolved(of, whole) {
  for (let depth = 0; depth < 5; depth++) {
    if (typeof of?.$ref === 'string' && of.$ref.startsWith('#/')) {
      const { $ref, ...rest } = of;
      of = { ...$ref.slice(2).split('/').reduce((at, name) => at?.[name.replaceAll('~1', '/').replaceAll('~0', '~')], whole), ...rest };
    } else if (of?.allOf?.length === 1) of = { ...of.allOf[0], ...of, allOf: undefined };
    else if (of?.anyOf?.length === 2 && of.anyOf.some((one) => one.type === 'null')) of = { ...of.anyOf.find((one) => one.type !== 'null'), ...of, anyOf: undefined };
    else break;
  }
  return of && typeof of === 'object' ? of : {};
}

function fieldOf(name, of, required) {
  const type = Array.isArray(of.type) ? of.type.find((one) => one !== 'null') : of.type;
  const options = of.enum ?? (of.const !== undefined ? [of.const] : null);
  const kind = options ? 'choice' : { integer: 'number', number: 'number', boolean: 'truth', string: 'text' }[type] ?? (type || of.properties || of.items || of.anyOf || of.oneOf ? 'json' : 'text');
  const title = of.title && of.title.toLowerCase() !== name.toLowerCase() ? of.title : name;
  return { name, kind, title, description: of.description, required: required && of.default === undefined, options, fallback: of.default, isWhole: type === 'integer', of };
}

// What stands in the field of a value.
export function written(field, value) {
  if (value === undefined) return '';
  if (field.kind === 'choice') return JSON.stringify(value);
  if (field.kind === 'json') return JSON.stringify(value, null, 2);
  return typeof value === 'object' ? JSON.stringify(value, null, 2) : String(value);
}

// { value } of what stands in a field, { problem } in words; neither where it is left out.
export function read(field, text) {
  const { kind, of } = field;
  if (text === '' || text === undefined) return field.required ? { problem: 'It is needed.' } : {};
  if (kind === 'truth') return { value: text === 'true' };
  if (kind === 'choice') return { value: JSON.parse(text) };
  if (kind === 'number') {
    const value = Number(text);
    if (Number.isNaN(value) || text.trim() === '') return { problem: 'It must be a number.' };
    if (field.isWhole && !Number.isInteger(value)) return { problem: 'It must be a whole number.' };
    if (of.minimum !== undefined && value < of.minimum) return { problem: `It must be ${of.minimum} or more.` };
    if (of.maximum !== undefined && value > of.maximum) return { problem: `It must be ${of.maximum} or less.` };
    return { value };
  }
  if (kind === 'json') {
    try {
      return { value: JSON.parse(text) };
    } catch (error) {
      return { problem: `It must be JSON: ${error.message}` };
    }
  }
  if (of.minLength !== undefined && text.length < of.minLength) return { problem: `It must have ${of.minLength} characters or more.` };
  if (of.maxLength !== undefined && text.length > of.maxLength) return { problem: `It must have ${of.maxLength} characters or fewer.` };
  if (of.pattern !== undefined && !matches(of.pattern, text)) return { problem: `It must be like ${of.pattern}` };
  return { value: text };
}

function matches(pattern, text) {
  try {
    return new RegExp(pattern, 'u').test(text);
  } catch {
    // The worker decides.
    return true;
  }
}
