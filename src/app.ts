/** The application: what every request passes through, and where each slice is mounted. */
import { Hono } from 'hono'
import type { Logger } from 'pino'
import * as v from 'valibot'
import type { Refused } from './audit/refusals.ts'
import { documentRoutes } from './documents/routes.ts'
import { ERRORS, type ErrorCode, notFound } from './errors.ts'
import type { Exchange } from './exchange/exchange.ts'
import { createExchangeDoors, exchangeDescriptions, exchangeRoutes } from './exchange/routes.ts'
import type { Description } from './http/description.ts'
import { resource } from './http/methods.ts'
import { describeError, renderError } from './http/problem.ts'
import {
  createLogAnswer,
  createOpenRequest,
  type RequestEnv,
  requestContext,
} from './http/request-context.ts'
import type { App } from './http/server.ts'
import { selfServiceDescriptions, selfServiceRoutes } from './keys/routes.ts'
import type { SelfService } from './keys/self-service.ts'
import { describeOperation } from './management/describe.ts'
import type { Operation } from './management/operation.ts'
import { type ManagementDependencies, managementRoutes } from './management/routes.ts'
import type { ClientAddress } from './network/client-address.ts'
import {
  createTokenDoors,
  metadataRoutes,
  type OAuthDependencies,
  oauthDescriptions,
  oauthRoutes,
} from './oauth/routes.ts'
import { UNREADY } from './readiness.ts'
import { jwksDescriptions, jwksRoutes } from './signing/routes.ts'
import type { Signer } from './signing/signer.ts'

export function createApp(dependencies: {
  log: Logger
  issuer: string
  clientAddress: ClientAddress
  exchange: Exchange
  oauth: Omit<OAuthDependencies, 'exchange'>
  selfService: SelfService
  /** For the audit trail, of key self-service; management has its own. */
  onKeyRefused: (refused: Refused) => void
  operations: readonly Operation[]
  management: ManagementDependencies
  signer: Pick<Signer, 'jwks'>
  /** Whether tokens can be minted; undefined when they can, else why not. */
  findUnreadiness: () => Promise<string | undefined>
}): App {
  const { exchange, log, oauth, selfService, onKeyRefused, operations, management, signer, issuer } =
    dependencies
  const app = new Hono<RequestEnv>()
  const exchangeDoors = createExchangeDoors(exchange)
  const tokenDoors = createTokenDoors({ exchange }, issuer)
  const open = createOpenRequest(dependencies)
  app.use(requestContext(open, log))
  app.onError((error, c) => renderError(c, error))
  app.notFound((c) => renderError(c, notFound()))

  app.route('/', exchangeRoutes(exchangeDoors))
  app.route('/', oauthRoutes(oauth, tokenDoors, issuer))
  app.route('/', metadataRoutes({ signer, signingAlgorithm: oauth.signingAlgorithm }, issuer))
  app.route('/', selfServiceRoutes(selfService, onKeyRefused))
  app.route('/', managementRoutes(operations, management))
  app.route('/', jwksRoutes(signer))
  app.route(
    '/',
    documentRoutes({
      descriptions: [
        ...exchangeDescriptions,
        ...oauthDescriptions(issuer),
        ...selfServiceDescriptions,
        ...jwksDescriptions,
        ...operations.map(describeOperation),
        ...serviceDescriptions,
      ],
      issuer,
    }),
  )
  resource(app, '/errors/:code', { GET: describeError })

  // The process runs. Whether the database does is no reason to kill it.
  resource(app, '/livez', { GET: (c) => c.json({ status: 'live' }, 200, { 'Cache-Control': 'no-store' }) })
  resource(app, '/readyz', {
    async GET(c) {
      const reason = await dependencies.findUnreadiness()
      const status = reason === undefined ? 200 : 503
      const body = reason === undefined ? { status: 'ready' } : { status: 'not_ready', reason }
      return c.json(body, status, {
        'Cache-Control': 'no-store',
        ...(reason === undefined ? {} : { 'Retry-After': '1' }),
      })
    },
  })
  return { router: app, doors: { ...exchangeDoors, ...tokenDoors }, open, logAnswer: createLogAnswer(log) }
}

const CODES = Object.keys(ERRORS) as ErrorCode[]
const common = { method: 'GET', tag: 'Service', security: 'none' } as const

const serviceDescriptions: readonly Description[] = [
  {
    ...common,
    id: 'getError',
    path: '/errors/{code}',
    summary: 'Read what an error is',
    description: 'What the `type` of a problem leads to.',
    parameters: { code: v.pipe(v.picklist(CODES), v.description('`error.code` of the problem.')) },
    answers: {
      200: {
        description: 'Its status and its title.',
        schema: v.strictObject({
          code: v.picklist(CODES),
          status: v.pipe(v.number(), v.integer(), v.examples([400])),
          title: v.pipe(v.string(), v.examples(['Invalid request'])),
        }),
      },
    },
    errors: ['not_found', 'server_error'],
  },
  {
    ...common,
    id: 'getLiveness',
    path: '/livez',
    summary: 'Ask whether the process runs',
    answers: {
      200: { description: 'It does.', schema: v.strictObject({ status: v.literal('live') }) },
    },
    errors: ['server_error'],
  },
  {
    ...common,
    id: 'getReadiness',
    path: '/readyz',
    summary: 'Ask whether tokens can be minted',
    answers: {
      200: { description: 'They can.', schema: v.strictObject({ status: v.literal('ready') }) },
      503: {
        description: 'They cannot, and why.',
        schema: v.strictObject({
          status: v.literal('not_ready'),
          reason: v.picklist(UNREADY),
        }),
        headers: { 'Retry-After': 'In seconds.' },
      },
    },
    errors: ['server_error'],
  },
]
