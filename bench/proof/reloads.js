import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { judge } from './judge.js'
import { freePorts, Line, within } from './line.js'
import { countPackets, namespaceOf, processesIn, tcpCounters } from './namespace.js'
import { Newcomers } from './newcomers.js'
import { spread } from './table.js'
import { Traffic } from './traffic.js'

/**
 * Clients with traffic, and reloads by starting the server again. Counters are read while every client is still connected:
 * whatever was closed by then was closed by a reload.
 */
export async function runReloads({ reloads, specs, least = {}, sabotage, inNamespace }, progress) {
  const [trafficPort, sidePort] = await freePorts(2)
  const directory = mkdtempSync(join(tmpdir(), 'tsunagi-proof-'))
  const line = new Line(new URL('./server.js', import.meta.url), {
    sidePort,
    environment: { TRAFFIC_PORT: trafficPort, SIDE_PORT: sidePort, TSUNAGI_DIR: directory },
  })
  const traffic = new Traffic(specs)
  let newcomers
  process.once('exit', cleanUp) // a proof that is interrupted leaves nothing either
  try {
    const packets = inNamespace ? countPackets(trafficPort) : undefined
    await line.reload()
    await traffic.start(trafficPort)
    const before = { tcp: tcpCounters(), packets: packets?.(), fds: await line.ask('fds') }
    newcomers = new Newcomers(sidePort)
    const windows = []
    const reports = []
    const start = performance.now()
    for (let done = 1; done <= reloads; done++) {
      const struck = sabotage && done === Math.ceil(reloads / 2)
      if (struck && sabotage === 'kill') line.current.child.kill('SIGKILL')
      windows.push(await oneReload(line, traffic, struck ? { PROOF_SABOTAGE: sabotage } : {}))
      reports.push(...line.current.reports)
      progress(done, await traffic.sum('unexpected'))
    }
    // An end that waits behind other bytes has to come out before the ends that are meant.
    const marks = Object.fromEntries((await line.ask('sessions')).map(({ id, sent }) => [id, sent]))
    await traffic.tellAll({ order: 'pass', marks, timeout: FINISH_TIMEOUT })
    const seconds = (performance.now() - start) / 1000
    await newcomers.stop()
    const fds = await settled(() => line.ask('fds'), before.fds)
    const after = { tcp: tcpCounters(), packets: packets?.(), seenByClients: await traffic.sum('unexpected') }
    const socketFiles = readdirSync(directory).length
    const processes = [...line.running].filter((one) => one !== line.current).length + (inNamespace ? strangers(line) : 0)

    await traffic.tellAll({ order: 'expectEnd' })
    await line.ask('stop')
    const groups = await traffic.tellAll({ order: 'finish', timeout: FINISH_TIMEOUT })
    await settled(() => line.ask('open'), 0)
    const verdict = judge(
      groups.flatMap((group) => group.clients),
      await line.ask('sessions'),
    )
    const last = line.current
    line.ask('quit').catch(() => {}) // it ends in place of an answer
    const { code } = await within(10_000, last.exited, 'the last server did not leave')
    const clients = specs.pingpong.length + specs.streams.length
    return {
      reloads,
      clients,
      expectedMoves: reloads * clients,
      ...verdict,
      faults: [...line.faults, ...verdict.faults],
      seconds,
      reloadSeconds: spread(windows.map((ms) => ms / 1000)),
      stalls: groups.flatMap((group) => group.clients).reduce((sum, client) => sum + client.stalls, 0),
      moved: reports.reduce((sum, { moved }) => sum + moved, 0),
      stayed: reports.flatMap(({ stayed }) => stayed.map(({ reason, connections }) => `${connections}: ${reason}`)),
      stoodStill: spread(reports.map(({ phases }) => STANDSTILL.reduce((sum, phase) => sum + phases[phase], 0) / 1000)),
      unreadBytes: reports.reduce((sum, { unreadBytes }) => sum + unreadBytes, 0),
      unsentBytes: reports.reduce((sum, { unsentBytes }) => sum + unsentBytes, 0),
      tooLittle: Object.keys(least).filter((what) => reports.some((report) => report[what] < least[what])),
      newcomers: newcomers.answered,
      newcomersFailed: newcomers.failed,
      seenByClients: after.seenByClients,
      packets: packets && difference(after.packets, before.packets),
      tcp: difference(after.tcp, before.tcp),
      pause: spread(groups.flatMap((group) => group.worst.reload)),
      steady: spread(groups.flatMap((group) => group.worst.steady)),
      left: {
        processes,
        fds: fds - before.fds,
        socketFiles: socketFiles - LISTENERS,
        filesAtTheEnd: readdirSync(directory).length,
        exitCode: code,
      },
    }
  } finally {
    newcomers?.stop()
    cleanUp()
    process.off('exit', cleanUp)
  }

  function cleanUp() {
    line.kill()
    traffic.kill()
    // One that is dying can still make the directory anew.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
    rmSync(directory, { recursive: true, force: true })
  }
}

/** One reload and a quiet time of the same length behind it, to compare with. Returns milliseconds from the start of the new to the end of the old process. */
async function oneReload(line, traffic, environment) {
  await traffic.tellAll({ order: 'measure', label: 'reload' })
  const start = performance.now()
  await line.reload(environment)
  const took = performance.now() - start
  await traffic.tellAll({ order: 'measure', label: undefined })
  await new Promise((resolve) => setTimeout(resolve, 50))
  await traffic.tellAll({ order: 'measure', label: 'steady' })
  await new Promise((resolve) => setTimeout(resolve, took))
  await traffic.tellAll({ order: 'measure', label: undefined })
  return took
}

/** The value once it is `wanted`, or what it is after some seconds: closing takes the other side a moment. */
async function settled(look, wanted) {
  for (let tries = 0; ; tries++) {
    const value = await look()
    if (value <= wanted || tries === 100) return value
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Processes of this network namespace that are none of ours: this one, the clients, the server. */
function strangers(line) {
  const parents = processesIn(namespaceOf('self')).length
  return Math.max(0, parents - 1 - CLIENT_PROCESSES - line.running.size)
}

function difference(after, before) {
  return Object.fromEntries(Object.entries(after).map(([name, value]) => [name, value - (before[name] ?? 0)]))
}

/** Phases of the successor in which neither process serves a connection. */
const STANDSTILL = ['receive', 'restore', 'commit', 'resume']
const CLIENT_PROCESSES = 2
const LISTENERS = 2
const FINISH_TIMEOUT = 30_000
