import { describe, expect, it } from 'vitest'
import { programOf, readSlot, unpackEnvironment } from '../../src/slot.js'

const pm2 = (given: object) => ({ pm2_env: JSON.stringify({ pm_id: 3, pm_exec_path: '/srv/app.js', ...given }) })

describe('the slot of a cluster worker', () => {
  it('is the pm_id that PM2 gives to a worker and to the one that replaces it, below the same daemon', () => {
    expect(readSlot(pm2({}))).toEqual({ key: `worker ${process.ppid}/pm2 3`, killTimeout: 1_600, listenTimeout: 3_000, saysReady: false })
  })

  it('knows how long PM2 waits, as its options, its environment or its defaults say', () => {
    expect(readSlot(pm2({ kill_timeout: '5000', listen_timeout: 8_000, wait_ready: true }))).toMatchObject({
      killTimeout: 5_000,
      listenTimeout: 8_000,
      saysReady: true,
    })
    expect(readSlot({ ...pm2({ kill_timeout: 'soon', listen_timeout: 0 }), PM2_KILL_TIMEOUT: '2000' })).toMatchObject({
      killTimeout: 2_000,
      listenTimeout: 3_000,
    })
  })

  it('is what a primary of one’s own says, and nothing where nobody says it', () => {
    expect(readSlot({ TSUNAGI_SLOT: '7' })?.key).toBe(`worker ${process.ppid}/7`)
    expect(readSlot({})).toBeUndefined()
    expect(readSlot({ TSUNAGI_SLOT: '' })).toBeUndefined()
  })

  it.each(['', 'null', '{', '[]', '{"pm_exec_path":"/srv/app.js"}'])('is not taken from %j, which PM2 has not written', (text) => {
    expect(readSlot({ pm2_env: text })).toBeUndefined()
  })
})

describe('what PM2 has packed', () => {
  it('is unpacked as far as it is ours', () => {
    const environment: NodeJS.ProcessEnv = pm2({ TSUNAGI_MOVE: 'all', TSUNAGI_GRACE: 5, PORT: 80 })
    unpackEnvironment(environment)
    expect(environment).toMatchObject({ TSUNAGI_MOVE: 'all', TSUNAGI_GRACE: '5' })
    expect(environment['PORT']).toBeUndefined()
  })

  it('names the program, which is not the one that Node was started with', () => {
    expect(programOf(pm2({}))).toBe('/srv/app.js')
    expect(programOf({})).toBe(process.argv[1])
  })
})
