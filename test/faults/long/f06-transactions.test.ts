/** Transactions, whatever becomes of their connections: each has one outcome, none is half there, the process lives. */
import { Socket } from 'node:net'
import { eq, sql } from 'drizzle-orm'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  connectAsNobody,
  connectAsPlatform,
  type Database,
  disconnect,
} from '../../../src/database/database.ts'
import { organizations } from '../../../src/database/schema.ts'
import {
  createTransactions,
  type InTransaction,
  type Transaction,
} from '../../../src/database/transaction.ts'
import { ApiError } from '../../../src/errors.ts'
import { createTcpProxy, type TcpProxy } from '../../database/tcp-proxy.ts'
import { createTestDatabase, type TestDatabase } from '../../support/database.ts'
import { waitFor } from '../../support/process.ts'

let database: TestDatabase
let proxy: TcpProxy
let pool: Database
beforeAll(async () => {
  database = await createTestDatabase()
  await database.sql`create table notes (text text primary key)`
  proxy = await createTcpProxy(`${database.target.host}/.s.PGSQL.${database.target.port}`)
})
afterAll(async () => {
  await proxy?.close()
  await database?.drop()
})
beforeEach(() => {
  pool = connectAsNobody(
    { ...database.target, host: '127.0.0.1', port: proxy.port },
    { max: 1, statementTimeoutMilliseconds: 1_000 },
  )
})
afterEach(async () => {
  await disconnect(pool)
  await database.sql`delete from notes`
})

const LIMITS = { deadlineMilliseconds: 4_000, maxPending: 10, maxPendingPerShare: 10 }
type InOneTransaction = <T>(work: (transaction: Transaction) => Promise<T>) => Promise<T>
/** All of one share. */
function transactions(deadlineMilliseconds = 4_000): InOneTransaction {
  const inTransaction = createTransactions(pool, { ...LIMITS, deadlineMilliseconds })
  return (work) => inTransaction('alone', work)
}
const note = (transaction: Transaction, text: string) =>
  transaction.execute(sql`insert into notes values (${text})`)
const notes = async () => (await database.sql`select text from notes order by text`).map(({ text }) => text)
const pidOf = async (transaction: Transaction) =>
  (await transaction.execute<{ pid: number }>(sql`select pg_backend_pid() as pid`))[0]?.pid ?? 0
const terminate = (pid: number) => database.sql`select pg_terminate_backend(${pid}, 5000)`

const unavailable = (cause?: RegExp) =>
  expect.objectContaining({
    name: 'ApiError',
    code: 'unavailable',
    headers: { 'Retry-After': '1' },
    ...(cause ? { cause: expect.objectContaining({ message: expect.stringMatching(cause) }) } : {}),
  })

/** The only connection of the pool is of use again; what it was told last is forgotten with the first try. */
async function expectRecovery(inTransaction: InOneTransaction) {
  await inTransaction((transaction) => note(transaction, 'first try')).catch((error) =>
    expect(error).toEqual(unavailable()),
  )
  for (let n = 0; n < 3; n++) await inTransaction((transaction) => note(transaction, `after ${n}`))
  const found = await notes()
  expect(found.filter((text) => text.startsWith('after'))).toEqual(['after 0', 'after 1', 'after 2'])
  return found.filter((text) => !/^(after|first try)/.test(text))
}

describe('a transaction', () => {
  test('commits what it did, and gives back what its work gave', async () => {
    const result = await transactions()(async (transaction) => {
      await note(transaction, 'a')
      expect(await notes()).toEqual([])
      await note(transaction, 'b')
      return 'done'
    })
    expect([result, await notes()]).toEqual(['done', ['a', 'b']])
  })

  test('that throws is rolled back, and what it threw comes out', async () => {
    const thrown = new ApiError('not_found', 'Gone.')
    const inTransaction = transactions()
    for (const error of [thrown, new TypeError('mine'), 'a string', undefined]) {
      const outcome = inTransaction(async (transaction) => {
        await note(transaction, 'a')
        throw error
      })
      expect(
        await outcome.then(
          () => 'committed',
          (reason) => [reason],
        ),
      ).toEqual([error])
    }
    expect(await expectRecovery(inTransaction)).toEqual([])
  })

  test('whose statement fails is rolled back, even where its work goes on', async () => {
    const inTransaction = transactions()
    await twice(inTransaction, false)
    await twice(inTransaction, true)
    expect(await expectRecovery(inTransaction)).toEqual([])

    async function twice(run: InOneTransaction, goesOn: boolean) {
      const outcome = run(async (transaction) => {
        await note(transaction, 'twice')
        const second = note(transaction, 'twice')
        await (goesOn ? second.catch(() => {}) : second)
      })
      await expect(outcome).rejects.toThrow()
    }
  })

  test('with a parameter that cannot be written is rolled back, and keeps no connection', async () => {
    const inTransaction = transactions()
    const outcome = inTransaction(async (transaction) => {
      await note(transaction, 'a')
      await transaction.execute(sql`select ${new Date(0)}`)
    })
    await expect(outcome).rejects.toMatchObject({ cause: { code: 'ERR_INVALID_ARG_TYPE' } })
    expect(await expectRecovery(inTransaction)).toEqual([])
  })
})

/** Does it once, in the moment between a reset and the driver's learning that the connection has ended. */
function afterReset(work: () => unknown) {
  const { emit } = Socket.prototype
  let isDone = false
  return vi.spyOn(Socket.prototype, 'emit').mockImplementation(function (
    this: Socket,
    ...event: Parameters<typeof emit>
  ) {
    const heard = emit.apply(this, event)
    if (event[0] === 'error' && !isDone) {
      isDone = true
      work()
    }
    return heard
  })
}

describe('the database takes too long', () => {
  test('for a statement: unavailable, rolled back', async () => {
    const inTransaction = transactions()
    const outcome = inTransaction(async (transaction) => {
      await note(transaction, 'a')
      await transaction.execute(sql`select pg_sleep(30)`)
    })
    await expect(outcome).rejects.toEqual(unavailable())
    expect(await expectRecovery(inTransaction)).toEqual([])
  })

  test('for a lock that two have from each other: one is unavailable, the other commits', async () => {
    const other = connectAsNobody(database.target, { max: 2, statementTimeoutMilliseconds: 10_000 })
    const inTransaction = createTransactions(other, { ...LIMITS, deadlineMilliseconds: 15_000 })
    const both = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const run = (own: number) =>
      inTransaction(`share ${own}`, async (transaction) => {
        await note(transaction, `${own}`)
        await transaction.execute(sql`select pg_advisory_xact_lock(${own})`)
        both[own]?.resolve()
        await both[1 - own]?.promise
        await transaction.execute(sql`select pg_advisory_xact_lock(${1 - own})`)
      })
    const outcomes = await Promise.allSettled([run(0), run(1)])
    await disconnect(other)
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(outcomes).toContainEqual({ status: 'rejected', reason: unavailable() })
    expect(await notes()).toEqual([outcomes[0]?.status === 'fulfilled' ? '0' : '1'])
  })

  test('for all of its statements: unavailable at the deadline, and what comes late never commits', async () => {
    const inTransaction = transactions(300)
    const worked = Promise.withResolvers<void>()
    const outcome = inTransaction(async (transaction) => {
      await note(transaction, 'late')
      for (let n = 0; n < 4; n++) await transaction.execute(sql`select pg_sleep(0.2)`)
      worked.resolve()
    })
    await expect(outcome).rejects.toEqual(unavailable(/no answer in time/))
    await worked.promise
    // With the pool's only connection: it runs when the late one is over.
    await waitFor('the connection', () =>
      inTransaction((transaction) => note(transaction, 'next')).then(
        () => true,
        () => false,
      ),
    )
    expect(await notes()).toEqual(['next'])
  })

  test('to get to it: what nobody waits for any more is not begun', async () => {
    const inTransaction = transactions(300)
    const slow = inTransaction((transaction) => transaction.execute(sql`select pg_sleep(0.8)`))
    let begun = 0
    const queued = Array.from({ length: 5 }, () =>
      inTransaction(async (transaction) => {
        begun++
        await note(transaction, `late ${begun}`)
      }),
    )
    const outcomes = await Promise.allSettled([slow, ...queued])
    for (const outcome of outcomes) expect(outcome).toEqual({ status: 'rejected', reason: unavailable() })
    await waitFor('the connection', () =>
      inTransaction(async () => {}).then(
        () => true,
        () => false,
      ),
    )
    expect([begun, await notes()]).toEqual([0, []])
  })

  test('to answer at all: only so many are left to the driver, others are refused at once, until the connection has ended', async () => {
    const limits = { deadlineMilliseconds: 300, maxPending: 3, maxPendingPerShare: 3 }
    const run = createTransactions(pool, limits)
    const inTransaction: InOneTransaction = (work) => run('alone', work)
    await inTransaction(async () => {})
    proxy.silence()
    const begin = vi.spyOn(pool, 'transaction')
    const ask = () => inTransaction((transaction) => note(transaction, 'silent'))
    for (const outcome of await Promise.allSettled([ask(), ask(), ask()]))
      expect(outcome).toEqual({ status: 'rejected', reason: unavailable(/no answer in time/) })
    // Those that waited have left. What the driver was given it cannot give back: that is answered, but not over.
    await waitFor(
      'refusals',
      () =>
        ask().catch((error) => {
          expect(error).toEqual(unavailable(/no answer in time|too many transactions/))
          return /too many/.test(error.cause.message)
        }) as Promise<boolean>,
    )
    expect(begin).toHaveBeenCalledTimes(3)
    proxy.cutAll()
    await waitFor('the pool', () =>
      inTransaction(async () => {}).then(
        () => true,
        () => false,
      ),
    )
    expect(await expectRecovery(inTransaction)).toEqual([])
  })
})

describe('of several shares', () => {
  /** Holds the pool's only connection until it is told to end. */
  function hold(inTransaction: InTransaction, share: string) {
    const held = Promise.withResolvers<void>()
    const begun = Promise.withResolvers<void>()
    const outcome = inTransaction(share, async () => {
      begun.resolve()
      await held.promise
    })
    return { begun: begun.promise, end: () => held.resolve(), outcome }
  }

  test('they begin by turns, and more than one share may have waiting are refused at once', async () => {
    const inTransaction = createTransactions(pool, { ...LIMITS, maxPendingPerShare: 4 })
    const holder = hold(inTransaction, 'flood')
    await holder.begun
    const order: string[] = []
    const ask = (share: string) =>
      inTransaction(share, async (transaction) => {
        order.push(share)
        await note(transaction, `${share} ${order.length}`)
      })
    const flood = [ask('flood'), ask('flood'), ask('flood')]
    // Nothing can have left its place meanwhile.
    await expect(ask('flood')).rejects.toEqual(unavailable(/too many transactions/))
    const others = [ask('operator'), ask('tenant')]
    holder.end()
    await Promise.all([holder.outcome, ...flood, ...others])
    expect(order).toEqual(['flood', 'operator', 'tenant', 'flood', 'flood'])
    expect(await notes()).toHaveLength(5)
    await ask('flood')
  })

  test('what waits too long for its turn is unavailable, was never begun, and has left its place', async () => {
    const inTransaction = createTransactions(pool, {
      ...LIMITS,
      deadlineMilliseconds: 300,
      maxPendingPerShare: 1,
    })
    const holder = hold(inTransaction, 'hanging')
    holder.outcome.catch(() => {})
    await holder.begun
    let begun = 0
    const ask = () =>
      inTransaction('waiting', async () => {
        begun++
      })
    for (let n = 0; n < 3; n++) await expect(ask()).rejects.toEqual(unavailable(/no answer in time/))
    // What hangs is answered, too, but has its place until the connection is free.
    await expect(holder.outcome).rejects.toEqual(unavailable(/no answer in time/))
    await expect(inTransaction('hanging', async () => {})).rejects.toEqual(unavailable(/too many/))
    expect(begun).toBe(0)
    holder.end()
    await waitFor('the connection', () =>
      ask().then(
        () => true,
        () => false,
      ),
    )
  })

  test('one that hangs with all it has leaves a connection to the others', async () => {
    const two = connectAsNobody(database.target, { max: 2, statementTimeoutMilliseconds: 10_000 })
    const inTransaction = createTransactions(two, { ...LIMITS, deadlineMilliseconds: 30_000 })
    const hanging = hold(inTransaction, 'hanging')
    const next = inTransaction('hanging', (transaction) => note(transaction, 'after it'))
    await hanging.begun
    for (let n = 0; n < 3; n++) await inTransaction('other', (transaction) => note(transaction, `other ${n}`))
    expect(await notes()).toEqual(['other 0', 'other 1', 'other 2'])
    hanging.end()
    await Promise.all([hanging.outcome, next])
    await disconnect(two)
    expect(await notes()).toContain('after it')
  })
})

describe('its connection is lost', () => {
  type Loss = (transaction: Transaction) => Promise<unknown>
  const soon = (work: () => unknown) => setTimeout(work, 50)
  const sleeping = (transaction: Transaction) => transaction.execute(sql`select pg_sleep(0.5)`)
  const lost = async () => {
    await waitFor('the end of the connection', async () => proxy.size() === 0)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const losses: Record<string, Loss> = {
    'between two statements: the backend is terminated': async (transaction) => {
      await terminate(await pidOf(transaction))
      await lost()
    },
    'between two statements: it is reset': async () => {
      proxy.cutAll()
      await lost()
    },
    'in a statement: the backend is terminated': async (transaction) => {
      const pid = await pidOf(transaction)
      soon(() => terminate(pid).then(() => {}))
      await sleeping(transaction)
    },
    ...Object.fromEntries(
      (['reset', 'end', 'server', 'both'] as const).map((way) => [
        `in a statement: it is cut (${way})`,
        async (transaction: Transaction) => {
          soon(() => proxy.cut(way))
          await sleeping(transaction)
        },
      ]),
    ),
  }
  const endings: Record<string, (loss: Promise<unknown>, transaction: Transaction) => Promise<unknown>> = {
    'goes on': async (loss, transaction) => {
      await loss
      await note(transaction, 'b')
    },
    'throws an error of its own': async (loss) => {
      await loss.catch(() => {})
      throw new Error('mine')
    },
    'goes on in spite of it': async (loss, transaction) => {
      await loss.catch(() => {})
      await note(transaction, 'b')
    },
    'does several things at once': (loss, transaction) =>
      Promise.all([loss, note(transaction, 'b'), note(transaction, 'c')]),
    'returns as if nothing had been': async (loss) => {
      await loss.catch(() => {})
      return 'done'
    },
  }
  // Each way of being cut with one of them: the driver hears of them in two ways only.
  const cases = Object.entries(losses).flatMap(([loss, lose]) =>
    Object.entries(endings)
      .slice(0, /cut \((end|server|both)\)/.test(loss) ? 1 : undefined)
      .map(([ending, end]) => ({ loss, lose, ending, end })),
  )
  test.each(cases)('$loss, and the work $ending', async ({ lose, end }) => {
    const inTransaction = transactions()
    const outcome = inTransaction(async (transaction) => {
      await note(transaction, 'a')
      return end(lose(transaction), transaction)
    })
    await expect(outcome).rejects.toEqual(unavailable())
    expect(await expectRecovery(inTransaction)).toEqual([])
  })

  test('in the commit: unavailable; all of it is there, or nothing', async () => {
    await database.sql`create function hold() returns trigger language plpgsql as
      $$ begin if new.text = 'held' then perform pg_sleep(0.5); end if; return new; end $$`
    await database.sql`create constraint trigger hold after insert on notes deferrable initially deferred
      for each row execute function hold()`
    const inTransaction = transactions()
    try {
      for (const lose of [terminate, () => proxy.cutAll()]) {
        let pid = 0
        const outcome = inTransaction(async (transaction) => {
          pid = await pidOf(transaction)
          await note(transaction, 'held')
          await note(transaction, 'held too')
        })
        outcome.catch(() => {})
        await waitFor('the commit', async () => {
          const [row] = await database.sql`select query, state from pg_stat_activity where pid = ${pid}`
          return row?.state === 'active' && row.query === 'commit'
        })
        await lose(pid)
        await expect(outcome).rejects.toEqual(unavailable())
        await waitFor(
          'the end',
          async () => (await database.sql`select from pg_stat_activity where pid = ${pid}`).count === 0,
        )
        // Of a terminated backend nothing; one that has only lost its client commits what it was told to.
        const found = await expectRecovery(inTransaction)
        expect(found).toEqual(lose === terminate ? [] : ['held', 'held too'])
        await database.sql`delete from notes`
      }
    } finally {
      await database.sql`drop trigger hold on notes`
    }
  })

  /** One of the two, and it says which. */
  const isCommitted = (outcome: Promise<unknown> | undefined) =>
    Promise.resolve(outcome).then(
      () => true,
      (error) => {
        expect(error).toEqual(unavailable())
        return false
      },
    )

  test('just before it begins: it does not run in the midst of the next one', async () => {
    const inTransaction = transactions(1_000)
    // Admits what goes to the same connection, whatever waits elsewhere.
    const beside = transactions(1_000)
    await inTransaction(async () => {})
    let first: Promise<unknown> | undefined
    const spy = afterReset(() => {
      first = inTransaction(async (transaction) => {
        await note(transaction, 'first')
        await note(transaction, 'first too')
      })
      first.catch(() => {})
    })
    proxy.cutAll()
    await waitFor('the reset', async () => first !== undefined)
    spy.mockRestore()
    await waitFor('the end', async () => proxy.size() === 0)
    const second = beside(async (transaction) => {
      for (let n = 0; n < 5; n++) await note(transaction, `second ${n}`)
      return (await transaction.execute(sql`select text from notes`)).map(({ text }) => text)
    })
    const ofFirst = (await isCommitted(first)) ? ['first', 'first too'] : []
    const ofSecond = ['second 0', 'second 1', 'second 2', 'second 3', 'second 4']
    expect((await second).filter((text) => String(text).startsWith('second'))).toEqual(ofSecond)
    expect(await expectRecovery(inTransaction)).toEqual([...ofFirst, ...ofSecond])
  })

  test('just before it begins, and nothing else is under way: the next one is not kept waiting for ever', async () => {
    const inTransaction = transactions(300)
    await inTransaction(async () => {})
    let first: Promise<unknown> | undefined
    const spy = afterReset(() => {
      first = inTransaction((transaction) => note(transaction, 'first'))
      first.catch(() => {})
    })
    proxy.cutAll()
    await waitFor('the reset', async () => first !== undefined)
    spy.mockRestore()
    expect(await expectRecovery(inTransaction)).toEqual((await isCommitted(first)) ? ['first'] : [])
  })

  test('a read in the moment after a reset is done or fails; it does not find nothing', async () => {
    await database.sql`insert into organizations (id, name) values ('org_here', 'Here')`
    const lookups = connectAsPlatform(
      { ...database.target, host: '127.0.0.1', port: proxy.port },
      { max: 1, statementTimeoutMilliseconds: 1_000 },
    )
    const find = lookups
      .select({ id: organizations.id })
      .from(organizations)
      .where(eq(organizations.id, 'org_here'))
      .prepare('find_here')
    expect(await find.execute()).toEqual([{ id: 'org_here' }])
    const found: Promise<unknown>[] = []
    const spy = afterReset(() => found.push(find.execute()))
    proxy.cutAll()
    await waitFor('the reset', async () => found.length > 0)
    spy.mockRestore()
    // The next statement brings the connection back, and with it the driver's answer to the one before.
    const [read, next] = await Promise.allSettled([found[0], find.execute()])
    expect(read).not.toMatchObject({ value: [] })
    expect(next).not.toMatchObject({ value: [] })
    await waitFor('the connection', async () => (await find.execute().catch(() => [])).length === 1)
    await disconnect(lookups)
  })

  test('before there is any: unavailable, and well once there is one', async () => {
    const gone = await createTcpProxy(`${database.target.host}/.s.PGSQL.${database.target.port}`)
    await gone.close()
    const elsewhere = connectAsNobody(
      { ...database.target, host: '127.0.0.1', port: gone.port },
      { max: 1, statementTimeoutMilliseconds: 1_000 },
    )
    const inTransaction = createTransactions(elsewhere, { ...LIMITS, deadlineMilliseconds: 1_000 })
    const never = () => inTransaction('any', (transaction) => note(transaction, 'never'))
    for (let n = 0; n < 3; n++) await expect(never()).rejects.toEqual(unavailable())
    await disconnect(elsewhere)
    await expect(never()).rejects.toEqual(unavailable())
  })
})
