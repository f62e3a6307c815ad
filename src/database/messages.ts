/** PostgreSQL's protocol (version 3), as far as a connection has to be understood to be watched. */

/** One byte each; a message begins with it, and the length of the rest follows in four. */
export const MESSAGES = {
  /** Of the client: whatever came before is to be answered now. */
  sync: 0x53,
  query: 0x51,
  /** Of the server: all is answered; what comes next? */
  readyForQuery: 0x5a,
  parameterStatus: 0x53,
  dataRow: 0x44,
  error: 0x45,
} as const

export type Message = { type: number; body: Buffer }

const HEADER = 5

/** Tells the type of each message that begins in the bytes, however they are cut. */
export function createMessageCounter(onMessage: (type: number) => void): (bytes: Buffer) => void {
  const header = Buffer.alloc(HEADER)
  let held = 0
  /** Of the message that has begun. */
  let left = 0
  return function count(bytes) {
    let at = 0
    while (at < bytes.length) {
      if (left > 0) {
        const passed = Math.min(left, bytes.length - at)
        left -= passed
        at += passed
      } else if (held === 0 && bytes.length - at >= HEADER) {
        left = bytes.readUInt32BE(at + 1) - 4
        onMessage(bytes[at] as number)
        at += HEADER
      } else {
        header[held++] = bytes[at++] as number
        if (held < HEADER) continue
        held = 0
        left = header.readUInt32BE(1) - 4
        onMessage(header[0] as number)
      }
    }
  }
}

/** The messages that are there as a whole, and what is left of the bytes. */
export function splitMessages(bytes: Buffer): { messages: Message[]; rest: Buffer } {
  const messages: Message[] = []
  let at = 0
  while (bytes.length - at >= HEADER) {
    const end = at + 1 + bytes.readUInt32BE(at + 1)
    if (bytes.length < end) break
    messages.push({ type: bytes[at] as number, body: bytes.subarray(at + HEADER, end) })
    at = end
  }
  return { messages, rest: bytes.subarray(at) }
}

export function toBytes({ type, body }: Message): Buffer {
  const header = Buffer.alloc(HEADER)
  header[0] = type
  header.writeUInt32BE(body.length + 4, 1)
  return Buffer.concat([header, body])
}

export const queryMessage = (text: string): Buffer =>
  toBytes({ type: MESSAGES.query, body: Buffer.from(`${text}\0`) })

/** A name and its value. */
export function parameterOf({ body }: Message): [string, string] {
  const [name = '', value = ''] = body.toString().split('\0')
  return [name, value]
}

/** The first column, as text. */
export function firstColumn({ body }: Message): string | undefined {
  const length = body.readInt32BE(2)
  return length < 0 ? undefined : body.toString('utf8', 6, 6 + length)
}

/** The SQLSTATE of an error. */
export const sqlStateOf = ({ body }: Message): string | undefined =>
  body
    .toString()
    .split('\0')
    .find((field) => field.startsWith('C'))
    ?.slice(1)
