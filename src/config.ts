/**
 * The only schema of the environment variables. `.env.example` documents each; every mistake in them is reported at
 * once, by name, and never with its value: some of them are secrets.
 */
import { isIP } from 'node:net'
import { resolve } from 'node:path'
import * as v from 'valibot'

export const SIGNING_ALGORITHMS = ['ES256', 'RS256', 'Ed25519'] as const
export type SigningAlgorithm = (typeof SIGNING_ALGORITHMS)[number]

export type Config = {
  /** Undefined: the embedded PostgreSQL, with its data in `dataDir`. */
  databaseUrl: string | undefined
  dataDir: string
  bootstrapFile: string | undefined
  host: string
  port: number
  /** Processes that serve the one port; with more than one, a supervisor runs them. */
  workers: number
  /** From SIGTERM on: so long it says that it is going, and still takes requests. */
  drainGraceSeconds: number
  issuer: string
  defaultAudience: string
  signingAlgorithm: SigningAlgorithm
  /** How long a signing key signs before the next one is published; 0: until somebody rotates it. */
  signingKeyRotationDays: number
  /** 32 bytes each: the first seals, all of them open. Undefined: made and kept in `dataDir` (embedded only). */
  keyEncryptionKeys: Uint8Array[] | undefined
  keyVendor: string
  trustedProxies: string[]
  failedAuthenticationsPerMinute: number
  /** Whether a client's approval takes another client than the one that asked for it. */
  fourEyes: boolean
  /** Whether a client assertion may name the token endpoint as its audience, as before RFC 10070. */
  acceptTokenEndpointAudience: boolean
  logLevel: (typeof LOG_LEVELS)[number]
}

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const

const loopback = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/

/** RFC 8414 §2: https, no query, no fragment; path-free and without a slash at the end, so that it is one string. */
function isIssuer(value: string): boolean {
  const url = URL.parse(value)
  if (!url || url.origin !== value) return false
  return url.protocol === 'https:' || (url.protocol === 'http:' && loopback.test(url.hostname))
}

/** What postgres.js would take as settings of the session, and so over ours, is refused. */
const DATABASE_URL_PARAMETERS = ['sslmode', 'target_session_attrs']

/** A user, a host or several, a database; every part percent-encoded where it must be. */
function isDatabaseUrl(value: string): boolean {
  // With several hosts it is no URL by the letter: each of them is looked at in the place of all.
  const match = /^(postgres(?:ql)?:\/\/(?:[^@/?#]*@)?)([^/?#@]+)(\/[^/?#]+)(\?[^#]*)?$/.exec(value)
  if (!match) return false
  const [, head = '', hosts = '', path = '', query = ''] = match
  try {
    decodeURIComponent(head)
    decodeURIComponent(path)
  } catch {
    return false
  }
  if ([...new URLSearchParams(query).keys()].some((name) => !DATABASE_URL_PARAMETERS.includes(name)))
    return false
  return hosts.split(',').every((host) => URL.canParse(head + host + path))
}

function isNetwork(value: string): boolean {
  const [address = '', prefix, ...rest] = value.split('/')
  const version = address.includes('%') ? 0 : isIP(address)
  if (version === 0 || rest.length > 0) return false
  return prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= (version === 4 ? 32 : 128))
}

const list = (value: string) =>
  value
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '')

const wholeNumber = (from: number, to: number) =>
  v.pipe(
    v.string(),
    v.regex(/^\d{1,9}$/, `must be a whole number from ${from} to ${to}`),
    v.transform(Number),
    v.minValue(from, `must be a whole number from ${from} to ${to}`),
    v.maxValue(to, `must be a whole number from ${from} to ${to}`),
  )

const DATABASE_URL_RULE = `must be postgres://user:password@host:port/database, special characters percent-encoded, with no parameters but ${DATABASE_URL_PARAMETERS.join(' and ')}`

const Environment = v.object({
  DATABASE_URL: v.optional(v.pipe(v.string(), v.check(isDatabaseUrl, DATABASE_URL_RULE))),
  DATA_DIR: v.optional(v.string(), '.signet'),
  BOOTSTRAP_FILE: v.optional(v.string()),
  HOST: v.optional(v.string(), '127.0.0.1'),
  PORT: v.optional(wholeNumber(1, 65_535), '8787'),
  WORKERS: v.optional(wholeNumber(1, 64), '1'),
  DRAIN_GRACE_SECONDS: v.optional(wholeNumber(0, 300), '3'),
  ISSUER: v.optional(
    v.pipe(
      v.string(),
      v.check(
        isIssuer,
        'must be an https origin such as https://auth.example.com: no path, query, fragment or slash at the end (http only on a loopback host)',
      ),
    ),
  ),
  DEFAULT_AUDIENCE: v.optional(v.pipe(v.string(), v.maxLength(255, 'must be at most 255 characters long'))),
  SIGNING_ALGORITHM: v.optional(
    v.picklist(SIGNING_ALGORITHMS, `must be one of ${SIGNING_ALGORITHMS.join(', ')}`),
    'ES256',
  ),
  SIGNING_KEY_ROTATION_DAYS: v.optional(wholeNumber(0, 365), '30'),
  KEY_ENCRYPTION_KEY: v.optional(
    v.pipe(
      v.string(),
      v.transform(list),
      v.minLength(1, 'must hold at least one key'),
      v.everyItem(
        (key) => /^[A-Za-z0-9_-]{43}$|^[A-Za-z0-9+/]{43}=$/.test(key),
        'must be 32 random bytes in base64 or base64url (openssl rand -base64 32), or several, comma-separated, the newest first',
      ),
      v.transform((keys) => keys.map((key) => new Uint8Array(Buffer.from(key, 'base64')))),
    ),
  ),
  KEY_PREFIX: v.optional(
    v.pipe(v.string(), v.regex(/^[a-z][a-z0-9]{1,7}$/, 'must be 2 to 8 lower-case letters and digits')),
    'sgt',
  ),
  TRUSTED_PROXIES: v.optional(
    v.pipe(
      v.string(),
      v.transform(list),
      v.everyItem(isNetwork, 'must be addresses or CIDR networks, comma-separated, such as 10.0.0.0/8,::1'),
    ),
    '',
  ),
  FAILED_AUTHENTICATIONS_PER_MINUTE: v.optional(wholeNumber(1, 1_000_000), '300'),
  FOUR_EYES: v.optional(v.picklist(['true', 'false'], 'must be true or false'), 'false'),
  ACCEPT_TOKEN_ENDPOINT_AUDIENCE: v.optional(v.picklist(['true', 'false'], 'must be true or false'), 'false'),
  LOG_LEVEL: v.optional(v.picklist(LOG_LEVELS, `must be one of ${LOG_LEVELS.join(', ')}`), 'info'),
})

export type ConfigProblem = { name: string; rule: string }
export type ParsedConfig = { ok: true; config: Config } | { ok: false; problems: ConfigProblem[] }

/**
 * Reads the configuration from environment variables. A variable that is set but empty counts as absent.
 * All mistakes come back together, each with the variable's name and the rule it breaks.
 */
export function parseConfig(variables: Record<string, string | undefined>): ParsedConfig {
  const present = Object.fromEntries(Object.entries(variables).filter(([, value]) => value !== ''))
  const parsed = v.safeParse(Environment, present)
  const problems: ConfigProblem[] = parsed.success
    ? []
    : parsed.issues.map((issue) => ({ name: String(issue.path?.[0]?.key), rule: issue.message }))

  if (present.DATABASE_URL && !present.KEY_ENCRYPTION_KEY)
    problems.push({
      name: 'KEY_ENCRYPTION_KEY',
      rule: 'is required with DATABASE_URL (openssl rand -base64 32)',
    })
  if (!parsed.success) return { ok: false, problems }

  const env = parsed.output
  const issuer = env.ISSUER ?? `http://localhost:${env.PORT}`
  const defaultAudience = env.DEFAULT_AUDIENCE ?? `${issuer}/api`
  // The issuer is the management API's audience: a business token must never open it.
  if (defaultAudience === issuer || defaultAudience === `${issuer}/sandbox`)
    problems.push({
      name: 'DEFAULT_AUDIENCE',
      rule: 'must not be an issuer: that is the audience of the management API',
    })
  if (problems.length > 0) return { ok: false, problems }

  return {
    ok: true,
    config: {
      databaseUrl: env.DATABASE_URL,
      dataDir: resolve(env.DATA_DIR),
      bootstrapFile: env.BOOTSTRAP_FILE,
      host: env.HOST,
      port: env.PORT,
      workers: env.WORKERS,
      drainGraceSeconds: env.DRAIN_GRACE_SECONDS,
      issuer,
      defaultAudience,
      signingAlgorithm: env.SIGNING_ALGORITHM,
      signingKeyRotationDays: env.SIGNING_KEY_ROTATION_DAYS,
      keyEncryptionKeys: env.KEY_ENCRYPTION_KEY,
      keyVendor: env.KEY_PREFIX,
      trustedProxies: env.TRUSTED_PROXIES,
      failedAuthenticationsPerMinute: env.FAILED_AUTHENTICATIONS_PER_MINUTE,
      fourEyes: env.FOUR_EYES === 'true',
      acceptTokenEndpointAudience: env.ACCEPT_TOKEN_ENDPOINT_AUDIENCE === 'true',
      logLevel: env.LOG_LEVEL,
    },
  }
}
