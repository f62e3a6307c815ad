/**
 * Doors: resources that are asked for so often that the router, its context and the Fetch API's objects would cost as much as
 * their own work. A door answers node's own request. The server opens it for exactly its method and path; whoever spells them
 * otherwise (a query, the absolute form) is led to the same door by the router.
 */
import type { ServerResponse } from 'node:http'
import type { Context } from 'hono'
import { contextOf, type RequestContext, type RequestEnv } from './request-context.ts'

const REST_MILLISECONDS = 500

export type Answer = { status: number; fields: Readonly<Record<string, string>>; body: string }

/** Never rejects: a refusal is an answer too. */
export type Door = (request: RequestContext) => Promise<Answer>

/** By the path that is posted to. */
export type Doors = Readonly<Record<string, Door>>

/** Of a door: what `answer` throws is rendered like any other answer. */
export const createDoor =
  (
    answer: (request: RequestContext) => Promise<Answer>,
    render: (request: RequestContext, error: unknown) => Answer,
  ): Door =>
  (request) =>
    answer(request).catch((error) => render(request, error))

/** The door, as the router has it. */
export const throughDoor =
  (door: Door) =>
  async (c: Context<RequestEnv>): Promise<Response> => {
    const { status, fields, body } = await door(contextOf(c))
    return new Response(body, { status, headers: fields })
  }

/** What is set on an answer before there is one: node's own response takes longer over each field than all of them are worth. */
export function gatherFields() {
  const lines: string[] = []
  return {
    lines,
    setHeader(name: string, value: string) {
      lines.push(name, value)
    },
  }
}

/** Lets a request in, and answers it. `lines`: names and values in turn, beside the fields of the answer. */
export async function enter(
  door: Door,
  request: RequestContext,
  { outgoing, lines }: { outgoing: ServerResponse; lines: readonly string[] },
): Promise<Answer['status']> {
  const { status, fields, body } = await door(request)
  const all = [...lines, 'Content-Length', String(Buffer.byteLength(body))]
  for (const name in fields) all.push(name, fields[name] ?? '')
  outgoing.writeHead(status, all).end(body)
  // Refused before it had come whole: node drops the rest, and we do not wait long for that.
  const { incoming } = request
  const cut = () => incoming.complete || incoming.destroy()
  if (!incoming.complete) outgoing.once('finish', () => setTimeout(cut, REST_MILLISECONDS).unref())
  return status
}
