export const MAX_DEPTH = 16

const QUOTE = 0x22
const COLON = 0x3a
const BACKSLASH = 0x5c

// ignoreBOM keeps a byte order mark in the text, where JSON.parse refuses it.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export type JsonObject = { readonly [member: string]: unknown }

/**
 * Parses UTF-8 bytes holding one JSON object. Returns undefined for anything else: ill-formed UTF-8, another
 * JSON type, more than 16 levels, and (RFC 7515 §4, RFC 7519 §4) duplicate member names at any level, which
 * JSON.parse would resolve silently to the last one.
 */
export function parseJsonObject(bytes: Uint8Array): JsonObject | undefined {
  try {
    const text = utf8.decode(bytes)
    const shape = shapeOf(text)
    if (shape.depth > MAX_DEPTH) return undefined
    const value: unknown = JSON.parse(text)
    if (!isJsonObject(value)) return undefined
    // Valid JSON has exactly one colon outside strings per member written, so fewer members in the value than
    // colons in the text means that a name was written twice.
    return countMembers(value) === shape.colons ? value : undefined
  } catch {
    return undefined
  }
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Counts colons outside strings and the deepest nesting; exact whenever JSON.parse accepts the same text. */
export function shapeOf(text: string): { colons: number; depth: number } {
  let colons = 0
  let depth = 0
  let deepest = 0
  let inString = false
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index)
    if (inString) {
      if (code === BACKSLASH) index += 1
      else if (code === QUOTE) inString = false
    } else if (code === QUOTE) inString = true
    else if (code === COLON) colons += 1
    else if (code === 0x7b || code === 0x5b) deepest = Math.max(deepest, ++depth)
    else if (code === 0x7d || code === 0x5d) depth -= 1
  }
  return { colons, depth: deepest }
}

export function countMembers(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  const children: unknown[] = Object.values(value)
  let count = Array.isArray(value) ? 0 : children.length
  for (const child of children) count += countMembers(child)
  return count
}
