type Element = string | number | boolean | null | undefined

/**
 * An array as PostgreSQL reads it (its documentation, §8.15.6). JSON differs in its brackets, and in what it makes of characters
 * that it must escape: where there are none, its own writer, which is much the fastest, does the work.
 */
export function arrayLiteral(values: readonly Element[]): string {
  const json = JSON.stringify(values)
  return json.includes('\\') ? `{${values.map(elementOf).join()}}` : `{${json.slice(1, -1)}}`
}

const elementOf = (value: Element): string =>
  typeof value === 'string' ? `"${value.replace(/["\\]/g, '\\$&')}"` : String(value ?? null)
