const TIMEOUT_MS = 5_000

/** The part of the Fetch API that is used: the global `fetch`, or one with an agent or proxy of your own. */
export type BoundedFetch = (url: string, init: RequestInit) => Promise<Response>

export type Document = {
  readonly status: number
  readonly headers: Headers
  /** Empty unless the status is 200. */
  readonly body: Uint8Array
}

/**
 * One GET, bounded in time (5 s, body included) and size. Rejects with an Error on any status that is not expected,
 * redirects included: the URI is where the document is, nobody else's word counts. `what` names it in messages.
 */
export async function fetchDocument(
  uri: string,
  options: {
    readonly what: string
    readonly fetch: BoundedFetch
    readonly headers: Readonly<Record<string, string>>
    readonly maxBytes: number
    /** Default: 200 alone. */
    readonly statuses?: readonly number[]
  },
): Promise<Document> {
  const controller = new AbortController()
  let timer: ReturnType<typeof setTimeout> | undefined
  // Raced, not only aborted: a fetch that was passed in may not heed the signal.
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`No ${options.what} within ${TIMEOUT_MS} ms`))
      controller.abort()
    }, TIMEOUT_MS)
  })
  try {
    return await Promise.race([request(uri, options, controller.signal), deadline])
  } finally {
    clearTimeout(timer)
    // Releases the connection of an answer that was not read to its end.
    controller.abort()
  }
}

async function request(
  uri: string,
  { what, fetch, headers, maxBytes, statuses = [200] }: Parameters<typeof fetchDocument>[1],
  signal: AbortSignal,
): Promise<Document> {
  const response = await fetch(uri, {
    method: 'GET',
    headers,
    // Not 'error': Cloudflare Workers refuses that value. 'manual' does not follow either, and a redirect then
    // has a status other than 200 (3xx, or 0 in browsers).
    redirect: 'manual',
    signal,
  })
  const { status } = response
  if (!statuses.includes(status)) throw new Error(`The URI of the ${what} answered with status ${status}`)
  const body = status === 200 ? await readBody(response, what, maxBytes) : new Uint8Array()
  return { status, headers: response.headers, body }
}

async function readBody(response: Response, what: string, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let length = 0
  const reader = response.body?.getReader()
  for (;;) {
    const chunk = await reader?.read()
    if (chunk?.value === undefined) break
    chunks.push(chunk.value)
    length += chunk.value.length
    if (length > maxBytes) throw new Error(`The ${what} is larger than ${maxBytes} bytes`)
  }
  const body = new Uint8Array(length)
  let offset = 0
  for (const chunk of chunks) {
    body.set(chunk, offset)
    offset += chunk.length
  }
  return body
}
