import { afterAll, beforeAll, expect, test } from 'vitest'
import { arrayLiteral } from '../../src/database/array-literal.ts'
import { connectAsPlatform, type Database, disconnect } from '../../src/database/database.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

let testDatabase: TestDatabase
let database: Database
beforeAll(async () => {
  testDatabase = await createTestDatabase()
  database = connectAsPlatform(testDatabase.target, { max: 1, statementTimeoutMilliseconds: 5_000 })
})
afterAll(async () => {
  await disconnect(database)
  await testDatabase.drop()
})

const TEXTS = [
  ['plain', ''],
  ['comma, {brace} and space ', 'NULL', 'null', '[1]'],
  ['"quoted"', 'back\\slash', '\\"', '\\n', "'"],
  ['line\nfeed', 'tab\t', '\u0001\u001f\u007f', '\u2028', 'é😀'],
]

test('numbers, truths and nothing', async () => {
  const [row] = await database.$client`select ${arrayLiteral([1, undefined, -2])}::integer[] as numbers,
    ${arrayLiteral([true, null])}::boolean[] as truths, ${arrayLiteral([])}::text[] as nothing`
  expect(row).toEqual({ numbers: '{1,NULL,-2}', truths: '{t,NULL}', nothing: '{}' })
})

test.each(TEXTS)('PostgreSQL reads what was written: %j', async (...texts) => {
  const [row] = await database.$client`select to_jsonb(${arrayLiteral(texts)}::text[])::text as read`
  expect(JSON.parse(row?.read)).toEqual(texts)
})
