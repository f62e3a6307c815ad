/**
 * The first start: an empty database gets the platform organization with an operator's client, and, where nobody
 * brought a database of their own, a demo organization to try things with.
 */
import { open, rename } from 'node:fs/promises'
import { createClientStore } from './clients/store.ts'
import type { Database } from './database/database.ts'
import type { clients } from './database/schema.ts'
import { newId } from './ids.ts'
import type { KeyFormat } from './keys/key-format.ts'
import { createKeyStore } from './keys/store.ts'
import { MANAGEMENT_SCOPES } from './management/scopes.ts'
import { createOrganizationStore } from './organizations/store.ts'

const DEMO_SCOPES = [
  'transactions:read',
  'transactions:write',
  'accounts:read',
  'accounts:write',
  'users:read',
  'webhooks:read',
  'webhooks:write',
  'person:write',
]

/** As it is written to BOOTSTRAP_FILE: wire names. `key` is shown here and never again. */
export type BootstrappedClient = {
  organization_id: string
  client_id: string
  key_id: string
  key: string
  scopes: string[]
}
export type Bootstrapped = {
  issuer: string
  operator: BootstrappedClient
  /** With FOUR_EYES: approves what the operator asks for. For another person. */
  approver?: BootstrappedClient
  demo?: BootstrappedClient
}

const APPROVER_SCOPES = ['signet:clients:read', 'signet:clients:approve']

/** Gives the keys to whoever they are for. */
export type HandOver = (bootstrapped: Bootstrapped) => Promise<void>

/** Does nothing when the platform organization is there already. To be called while no other process starts. */
export async function bootstrap(
  database: Database,
  options: {
    issuer: string
    keyFormat: KeyFormat
    withDemo: boolean
    fourEyes: boolean
    handOver: HandOver
    now: number
  },
): Promise<void> {
  await database.transaction(async (transaction) => {
    const organizationStore = createOrganizationStore(transaction)
    if (await organizationStore.findPlatform()) return

    const clientStore = createClientStore(transaction)
    const keyStore = createKeyStore(transaction)

    async function addOrganization(organization: { name: string; platform?: boolean }): Promise<string> {
      const id = newId('organization')
      await organizationStore.insert({ id, ...organization })
      return id
    }

    async function addClient(
      organizationId: string,
      client: Pick<
        typeof clients.$inferInsert,
        'name' | 'scopes' | 'environment' | 'allowedCidrs' | 'approvedAt'
      >,
    ): Promise<BootstrappedClient> {
      const clientId = newId('client')
      await clientStore.insert({
        id: clientId,
        organizationId,
        status: 'active',
        rateLimitPerMinute: 600,
        ...client,
      })
      const keyId = newId('key')
      const { key, lookupId, hash, prefix } = options.keyFormat.generate(client.environment)
      await keyStore.insert({ id: keyId, clientId, lookupId, hash, prefix })
      return {
        organization_id: organizationId,
        client_id: clientId,
        key_id: keyId,
        key,
        scopes: client.scopes,
      }
    }

    const platformId = await addOrganization({ name: 'Platform', platform: true })
    const ofPlatform = {
      environment: 'production' as const,
      // Said, not left out: a production client names its networks. The operator narrows this.
      allowedCidrs: ['0.0.0.0/0', '::/0'],
      approvedAt: new Date(options.now),
    }
    const operator = await addClient(platformId, {
      ...ofPlatform,
      name: 'Operator',
      scopes: [...MANAGEMENT_SCOPES],
    })
    // Else nobody could approve what the operator asks for, another approver to begin with.
    const approver = options.fourEyes
      ? await addClient(platformId, { ...ofPlatform, name: 'Approver', scopes: APPROVER_SCOPES })
      : undefined
    const demo = options.withDemo
      ? await addClient(await addOrganization({ name: 'Demo' }), {
          name: 'Demo',
          environment: 'sandbox',
          scopes: DEMO_SCOPES,
        })
      : undefined
    // Before the commit: no key is ever in the database that nobody has been given. If the commit fails, these are void,
    // and the next start hands over others.
    await options.handOver({
      issuer: options.issuer,
      operator,
      ...(approver ? { approver } : {}),
      ...(demo ? { demo } : {}),
    })
  })
}

/** Writes BOOTSTRAP_FILE, whole or not at all, readable by its owner only. */
export async function writeBootstrapFile(path: string, content: Bootstrapped): Promise<void> {
  const file = await open(`${path}.new`, 'w', 0o600)
  try {
    // The mode above counts only where the file did not exist.
    await file.chmod(0o600)
    await file.writeFile(`${JSON.stringify(content, undefined, 2)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(`${path}.new`, path)
}
