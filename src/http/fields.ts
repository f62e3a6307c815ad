/** Fields of a request as they came: Node's own `headers` silently keep the first line of some, and join others. */
import type { IncomingMessage } from 'node:http'

type RawFields = Pick<IncomingMessage, 'rawHeaders'>

/** The values of a field, one for each line; `name` in lower case. */
export function fieldLines({ rawHeaders }: RawFields, name: string): string[] {
  const lines: string[] = []
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const each = rawHeaders[i]
    if (each?.length === name.length && each.toLowerCase() === name) lines.push(rawHeaders[i + 1] ?? '')
  }
  return lines
}

/** The value of a field, its lines joined (RFC 9110 §5.3): one that may stand once and stands twice is then malformed. */
export function fieldOf(request: RawFields, name: string): string | undefined {
  const lines = fieldLines(request, name)
  return lines.length > 1 ? lines.join(', ') : lines[0]
}
