/** Hono answers a method that a path does not have with 404; RFC 9110 §15.5.6 wants 405 and the methods it has. */
import type { Handler, Hono } from 'hono'
import { ApiError } from '../errors.ts'
import type { RequestEnv } from './request-context.ts'

/** Mounts a resource: its handlers by method, and 405 with `Allow` for all others. */
export function resource(
  app: Hono<RequestEnv>,
  path: string,
  handlers: Partial<Record<'GET' | 'POST' | 'PATCH' | 'OPTIONS', Handler<RequestEnv>>>,
): void {
  const methods = Object.keys(handlers)
  if (methods.includes('GET')) methods.splice(methods.indexOf('GET') + 1, 0, 'HEAD')
  const allow = methods.join(', ')
  for (const [method, handler] of Object.entries(handlers)) app.on(method, path, handler)
  app.all(path, () => {
    throw new ApiError('method_not_allowed', `This resource takes ${allow}.`, { headers: { Allow: allow } })
  })
}
