// Runs the tests of http-cache-tests against one cache and prints the results
// as JSON. Usage: node client.mjs BASE_URL PACE_MS SETTLE_MS [TEST_ID...]
//
// The tests and the way each is judged are the package's own. Three things differ
// from its cli.mjs:
//
// - Pace. The package starts a hundred tests at once, waits for the last, and
//   starts a hundred more. Most tests pause for three seconds and some have a
//   second to spare, so bursts make them fail on a busy machine, and the waits
//   cost a minute. Here a test starts every PACE_MS milliseconds.
// - Settling. Each request is sent SETTLE_MS late, for a cache that stores a
//   response only some time after the client has it. No test minds 300 ms.
// - A deadline. A cache that never answers fails its test, not the run.
//
// With test ids only those run, and the tests they depend on.

import process from 'node:process'
import fetch from 'node-fetch'

import * as config from 'http-cache-tests/client/config.mjs'
import { makeCacheTest, testResults } from 'http-cache-tests/client/test.mjs'
import { determineTestResult, testLookup } from 'http-cache-tests/lib/display.mjs'
import suites from 'http-cache-tests/tests/index.mjs'
import surrogate from 'http-cache-tests/tests/surrogate-control.mjs'

const FETCH_DEADLINE_MS = 20000

// The package tells results apart by the symbol that its pages show.
const RESULT_NAMES = {
  '-': 'untested',
  '✅': 'pass',
  '⛔️': 'fail',
  '⚠️': 'optional_fail',
  Y: 'yes',
  N: 'no',
  '🔹': 'setup_fail',
  '⁉️': 'harness_fail',
  '⚪️': 'dependency_fail',
  '↻': 'retry'
}

const [base, pace, settle, ...ids] = process.argv.slice(2)
const all = [...suites, surrogate]

const sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

config.setFetch(async (url, init) => {
  if (Number(settle) > 0) await sleep(Number(settle))
  return fetch(url, { timeout: FETCH_DEADLINE_MS, ...init })
})
config.setBaseUrl(base)
config.setUseBrowserCache(false)

function withDependencies (wanted) {
  const chosen = new Set()
  const add = id => {
    if (chosen.has(id)) return
    chosen.add(id)
    for (const dependency of testLookup(all, id).depends_on ?? []) add(dependency)
  }
  wanted.forEach(add)
  return chosen
}

const chosen = ids.length > 0 ? withDependencies(ids) : undefined
const selected = all.flatMap(suite => suite.tests
  .filter(test => test.browser_only !== true)
  .filter(test => chosen === undefined || chosen.has(test.id))
  .map(test => ({ suite, test })))

const running = []
for (const { test } of selected) {
  running.push(makeCacheTest(test))
  await sleep(Number(pace))
}
await Promise.all(running)

function report ({ suite, test }) {
  const symbol = determineTestResult(all, test.id, testResults)[2]
  const raw = testResults[test.id]
  return {
    suite: suite.id,
    suiteName: suite.name,
    id: test.id,
    name: test.name,
    kind: { optimal: 'optional', check: 'check' }[test.kind] ?? 'required',
    apart: suite === surrogate,
    result: RESULT_NAMES[symbol] ?? `unknown symbol ${symbol}`,
    message: raw === true ? '' : raw.join(': ')
  }
}

process.stdout.write(JSON.stringify(selected.map(report), null, 1) + '\n')
