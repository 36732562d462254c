import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { Fleet } from '../helpers/fleet.js'
import { fixture, until } from '../helpers/process.js'
import { describeSystemd, Service } from '../helpers/systemd-service.js'

/** A process that starts on a busy machine needs a part of it. */
const WATCHED = 'WatchdogSec=6s\nTimeoutAbortSec=2s\nRestart=on-failure\nRestartSec=100ms'

describeSystemd(252, 'the watchdog', (usr) => {
  it('is pinged while the event loop turns, after each handover by the process that serves then', async () => {
    const service = await Service.start({ usr, store: 16, more: WATCHED })
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 5 } })
    for (const command of ['reload', 'restart', 'reload']) {
      await service.untilStoring()
      expect(await service.box.systemctl(command, 'app')).toMatchObject({ code: 0 })
      await pinged(service, 2)
    }
    await fleet.settle()
    expect(fleet.broken).toEqual([])
    expect(await service.restarts()).toBe(0)
  })

  it('ends a process that is stuck, also one that a handover has made the main one, and the next one has its listener', async () => {
    const service = await Service.start({ usr, store: 16, more: WATCHED })
    service.deploy(`process.on('SIGALRM', () => { for (;;); })
      import ${JSON.stringify(fixture('plain/fleet.mjs'))}`)
    expect(await service.box.systemctl('reload', 'app')).toMatchObject({ code: 0 })
    await service.untilStoring()
    const main = await service.mainPid()
    await service.box.run('kill', '-ALRM', String(main))
    await until(async () => (await service.restarts()) === 1)
    await Fleet.connect({ raw: service.port, clients: { raw: 3 } })
    expect(await service.isListed(main)).toBe(false)
  })

  it('is not pinged by a new version that boots beside one that is stuck', async () => {
    const service = await Service.start({ usr, store: 16, more: WATCHED })
    const slow = new SlowVersion(service)
    const reload = service.box.systemctl('reload', 'app')
    await slow.untilBooting()
    await pinged(service, 1) // what the reload has granted is over
    const main = await service.mainPid()
    await service.box.run('kill', '-STOP', String(main))
    await until(async () => !(await service.isListed(main)))
    expect((await reload).code).not.toBe(0)
    slow.goOn()
    await Fleet.connect({ raw: service.port, clients: { raw: 3 } })
  })
})

describeSystemd(252, 'a reload', (usr, version) => {
  it.each(version < 254 ? (['notify'] as const) : (['notify', 'notify-reload'] as const))(
    'whose new version takes longer than systemd would wait is waited for (Type=%s)',
    async (type) => {
      const service = await Service.start({ usr, type, more: 'TimeoutStartSec=4s' })
      const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 5 } })
      const main = await service.mainPid()
      const slow = new SlowVersion(service)
      const reload = service.box.systemctl('reload', 'app')
      await slow.untilBooting()
      await delay(6_000) // by then it would have ended the reload
      expect(await service.box.show('app', 'ActiveState')).toBe('reloading')
      slow.goOn()
      expect(await reload).toMatchObject({ code: 0, err: '' })
      expect(await service.mainPid()).not.toBe(main)
      await fleet.settle()
      expect(fleet.broken).toEqual([])
    },
  )
})

/** The next version of a service, which boots until it may go on. */
class SlowVersion {
  readonly #service: Service
  readonly #go: string

  constructor(service: Service) {
    this.#service = service
    this.#go = join(service.box.directory, 'go')
    service.deploy(`import { existsSync } from 'node:fs'
      console.log('booting slowly')
      while (!existsSync(${JSON.stringify(this.#go)})) await new Promise((resolve) => setTimeout(resolve, 50))
      await import(${JSON.stringify(fixture('plain/fleet.mjs'))})`)
  }

  untilBooting(): Promise<void> {
    return this.#service.untilSaid(/booting slowly/)
  }

  goOn(): void {
    if (!existsSync(this.#go)) writeFileSync(this.#go, '')
  }
}

/** systemd has heard so many pings from now on. */
async function pinged(service: Service, times: number): Promise<void> {
  for (let ping = 0; ping < times; ping++) {
    const last = await service.box.show('app', 'WatchdogTimestampMonotonic')
    await until(async () => (await service.box.show('app', 'WatchdogTimestampMonotonic')) !== last)
  }
}
