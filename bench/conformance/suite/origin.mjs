// The origin server of http-cache-tests, on a loopback port.
//
// The package's own server/server.mjs listens on every interface and takes its
// settings from npm's environment, so this starts the same three handlers
// (config: what to answer, test: answer it, state: what was asked) on
// 127.0.0.1. Usage: node origin.mjs [PORT]; without a port the system chooses
// one. The first line on stdout is the port. It ends when stdin does, so that
// it cannot outlive whoever started it.

import http from 'node:http'
import process from 'node:process'

import handleConfig from 'http-cache-tests/server/handle-config.mjs'
import handleState from 'http-cache-tests/server/handle-state.mjs'
import handleTest from 'http-cache-tests/server/handle-test.mjs'

const handlers = { config: handleConfig, state: handleState, test: handleTest }

const server = http.createServer((request, response) => {
  const [, name, ...rest] = new URL(request.url, 'http://origin/').pathname.split('/')
  const handle = Object.hasOwn(handlers, name) ? handlers[name] : undefined
  if (handle === undefined) {
    response.writeHead(404, { 'Content-Type': 'text/plain' })
    response.end(`${name} is not a part of the suite's server\n`)
    return
  }
  handle(rest, request, response)
})

server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  console.log(server.address().port)
})

process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
