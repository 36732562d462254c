/**
 * What only one process may do at a time, over reloads: a clock that ticks to everybody, a consumer of jobs, and a leader's lock. Start it, and
 * start it again elsewhere: nc 127.0.0.1 7004 sees each tick once, each job is done once, and there is one leader at a time.
 * PORT, HOST, PERIOD (ms) and FOLDER (for jobs, the lock and the journal) may be given.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createServer, owned, ready, retiring } from 'tsunagi'
import { createClock } from './clock.js'
import { consumeJobs } from './consumer.js'
import { leadWhile } from './leader.js'

const folder = process.env.FOLDER ?? join('/tmp', `tsunagi-lifecycle-${process.getuid()}`)
mkdirSync(join(folder, 'jobs'), { recursive: true })

const server = createServer((socket) => {
  socket.resume() // clients only listen
  socket.on('error', () => {}) // 'close' follows
})
const clock = createClock(server, Number(process.env.PERIOD ?? 1000))

server.listen(process.env.PORT ?? 7004, process.env.HOST ?? '127.0.0.1')
ready() // without it, ready is the end of this file, and that waits for owned()
await owned()
console.log(`process ${process.pid} serves`)
clock.start()
consumeJobs(join(folder, 'jobs'), retiring)
leadWhile(join(folder, 'leader.lock'), join(folder, 'journal'), retiring)

retiring.addEventListener('abort', () => {
  clock.stop()
  console.log(`process ${process.pid} has handed over`)
})
