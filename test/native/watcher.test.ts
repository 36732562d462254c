import { describe, expect, test } from 'vitest'
import { bytes, NO_FDS, native, pair, run, thrownBy } from './native-under-test.js'
import { loopHasPolled } from './tcp.js'

const into = new Uint8Array(8)

/** Watches `fd`; `next` settles at the next call. */
function watched(fd: number) {
  const seen = { calls: 0, wake: () => {} }
  const watcher = native.watch(fd, () => {
    seen.calls++
    seen.wake()
  })
  const next = () => new Promise<void>((resolve) => (seen.wake = resolve))
  return { watcher, seen, next }
}

describe('watch', () => {
  test('calls back when something arrives, again as long as it is not read, and no more when it is', async () => {
    const [a, b] = pair()
    const { watcher, seen, next } = watched(b)
    await loopHasPolled()
    expect(seen.calls).toBe(0)
    native.sendMessage(a, [bytes('x')], NO_FDS, 1000)
    await next()
    await next()
    native.receiveMessage(b, into, 0)
    const { calls } = seen
    await loopHasPolled()
    expect(seen.calls).toBe(calls)
    watcher.close()
  })

  test('calls back when the peer hangs up', async () => {
    const [a, b] = pair()
    const { watcher, next } = watched(b)
    native.closeFds(Int32Array.of(a))
    await next()
    expect(native.receiveMessage(b, into, 0).bytes).toBe(0)
    watcher.close()
  })

  test('does not call back after close, which may be repeated and called from the callback itself', async () => {
    const [a, b] = pair()
    let calls = 0
    const watcher = native.watch(b, () => {
      calls++
      watcher.close()
      watcher.close()
    })
    native.sendMessage(a, [bytes('x')], NO_FDS, 1000)
    await loopHasPolled()
    await loopHasPolled()
    expect(calls).toBe(1)
    watcher.close()
    watcher.ref()
    watcher.unref()
  })

  test('lets the descriptor be closed and its number be watched again at once', async () => {
    const [a, b] = pair()
    watched(b).watcher.close()
    const { watcher, next } = watched(b)
    native.sendMessage(a, [bytes('x')], NO_FDS, 1000)
    await next()
    watcher.close()
  })

  test('says what is wrong with a descriptor that cannot be watched', () => {
    expect(thrownBy(() => native.watch(1_000_000, () => {}))).toMatchObject({ code: 'EBADF', syscall: 'uv_poll_init' })
    const [, b] = pair()
    const { watcher } = watched(b)
    expect(thrownBy(() => native.watch(b, () => {})).code).toBe('EEXIST')
    watcher.close()
  })

  test('runs promise jobs and ticks after each callback', async () => {
    const output = await run(`
      const [a, b] = native.socketPair()
      const order = []
      const watcher = native.watch(b, () => {
        order.push('call')
        process.nextTick(() => order.push('tick'))
        Promise.resolve().then(() => order.push('job'))
        if (order.length < 4) return
        watcher.close()
        setImmediate(() => console.log(order.join()))
      })
      native.sendMessage(a, [Buffer.from('x')], new Int32Array(0), 0)`)
    expect(output).toBe('call,tick,job,call,tick,job')
  })

  test('gives an exception of the callback to uncaughtException and goes on', async () => {
    const output = await run(`
      const [a, b] = native.socketPair()
      let calls = 0
      const caught = []
      process.on('uncaughtException', (error) => caught.push(error.message))
      const watcher = native.watch(b, () => {
        if (++calls === 2) { watcher.close(); setImmediate(() => console.log(caught.join())) }
        throw new Error('thrown ' + calls)
      })
      native.sendMessage(a, [Buffer.from('x')], new Int32Array(0), 0)`)
    expect(output).toBe('thrown 1,thrown 2')
  })

  test('holds the process open until it is unreferenced', async () => {
    expect(await run(`native.watch(native.socketPair()[0], () => {}).unref(); console.log('ended')`)).toBe('ended')
    const output = await run(`
      const [a, b] = native.socketPair()
      const watcher = native.watch(b, () => { watcher.close(); console.log('called') })
      watcher.unref()
      watcher.ref()
      setTimeout(() => native.sendMessage(a, [Buffer.from('x')], new Int32Array(0), 0), 10).unref()`)
    expect(output).toBe('called')
  })

  test('lives on when nothing but the event loop holds it, and is collected after close', async () => {
    const output = await run(
      `const [a, b] = native.socketPair()
       const collected = new FinalizationRegistry((what) => console.log(what))
       native.watch(b, () => { console.log('called'); native.receiveMessage(b, new Uint8Array(8), 0) }).unref()
       const [, d] = native.socketPair()
       ;(() => { const closed = native.watch(d, () => {}); collected.register(closed, 'collected'); closed.close() })()
       setImmediate(() => {
         gc()
         native.sendMessage(a, [Buffer.from('x')], new Int32Array(0), 0)
         setTimeout(() => gc(), 10)
         setTimeout(() => {}, 50)
       })`,
      { nodeOptions: ['--expose-gc'] },
    )
    expect(output.split('\n').sort()).toEqual(['called', 'collected'])
  })

  test('works in a worker thread and survives its end with a watcher open', async () => {
    const output = await run(`
      const { Worker } = require('node:worker_threads')
      const addon = Object.keys(require.cache).find((file) => file.endsWith('.node'))
      const worker = new Worker('(' + String((file) => {
        const native = require(file)
        const { parentPort } = require('node:worker_threads')
        const [a, b] = native.socketPair()
        native.watch(native.socketPair()[0], () => {})
        native.watch(b, () => { native.receiveMessage(b, new Uint8Array(8), 0); parentPort.postMessage('called') })
        native.sendMessage(a, [Buffer.from('x')], new Int32Array(0), 0)
      }) + ')(' + JSON.stringify(addon) + ')', { eval: true })
      worker.on('message', async (said) => { console.log(said, await worker.terminate()) })`)
    expect(output).toBe('called 1')
  })

  test('and every other call survive the end of their worker thread, also in the middle of a wait', async () => {
    const output = await run(`
      const { Worker } = require('node:worker_threads')
      const addon = Object.keys(require.cache).find((file) => file.endsWith('.node'))
      const worker = new Worker('(' + String((file) => {
        const native = require(file)
        const [a, b] = native.socketPair()
        require('node:worker_threads').parentPort.postMessage(b)
        native.receiveMessage(a, new Uint8Array(8), -1)
      }) + ')(' + JSON.stringify(addon) + ')', { eval: true })
      worker.on('message', async (peer) => {
        const ended = worker.terminate()
        native.closeFds(Int32Array.of(peer))
        console.log(await ended)
      })`)
    expect(output).toBe('1')
  })

  test('survives the end of the process with a watcher open', async () => {
    expect(await run(`native.watch(native.socketPair()[0], () => {}); console.log('ended'); process.exit(0)`)).toBe('ended')
  })
})
