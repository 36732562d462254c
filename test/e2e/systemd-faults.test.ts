import { expect, it } from 'vitest'
import { Fleet } from '../helpers/fleet.js'
import { until } from '../helpers/process.js'
import { describeSystemd, Service } from '../helpers/systemd-service.js'

const ALWAYS = 'Restart=always\nRestartSec=100ms'

describeSystemd(252, 'a start after systemctl restart that is killed', (usr) => {
  it.each(['successor-after-find', 'successor-before-receive', 'successor-after-open'])(
    '(%s) before its commit costs nothing: the store has everything for the next one',
    async (point) => {
      const service = await Service.start({ usr, store: 16, more: ALWAYS })
      const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 10 } })
      await service.untilStoring()
      service.set({ TSUNAGI_FAULT: `${point}=kill` })
      await service.box.systemctl('restart', 'app', '--no-block')
      await until(async () => (await service.restarts()) >= 2) // twice: to look at what is there does not use it up
      service.set({})
      await service.untilSaid(/took 10 connections over from the systemd/)
      await fleet.settle()
      expect(fleet.broken).toEqual([])
      // What has been taken is in the store no more: the next restart finds its own.
      await service.untilStoring()
      expect(await service.box.systemctl('restart', 'app')).toMatchObject({ code: 0 })
      await fleet.settle()
      expect(fleet.broken).toEqual([])
    },
  )

  it('(successor-after-commit) takes the connections with it: nobody else may own them', async () => {
    const service = await Service.start({ usr, store: 16, more: ALWAYS })
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 10 } })
    await service.untilStoring()
    service.set({ TSUNAGI_FAULT: 'successor-after-commit=kill' })
    await service.box.systemctl('restart', 'app', '--no-block')
    await until(async () => fleet.broken.length === 10)
    service.set({})
    await service.untilSaid(/was not taken over: systemd has not kept the connections, or a process that died has taken them/)
    await service.untilStoring()
    const another = await Fleet.connect({ raw: service.port, clients: { raw: 3 } })
    expect(await service.box.systemctl('restart', 'app')).toMatchObject({ code: 0 })
    await another.settle()
    expect(another.broken).toEqual([])
  })

  it('leaves more connections than one message takes to the next one', async () => {
    const service = await Service.start({ usr, store: 16, more: ALWAYS })
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 600 }, rest: 500 })
    await service.untilStoring()
    service.set({ TSUNAGI_FAULT: 'successor-after-open=kill' })
    await service.box.systemctl('restart', 'app', '--no-block')
    await until(async () => (await service.restarts()) >= 1)
    service.set({})
    await service.untilSaid(/took 600 connections over from the systemd/)
    await fleet.settle()
    expect(fleet.broken).toEqual([])
  })
})

describeSystemd(252, 'a service that cannot take what the store has', (usr) => {
  it('lets go of it, and serves', async () => {
    const service = await Service.start({ usr, store: 16, more: ALWAYS })
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 10 } })
    await service.untilStoring()
    service.set({ TSUNAGI_FAULT: 'successor-after-open=throw' })
    expect(await service.box.systemctl('restart', 'app')).toMatchObject({ code: 0 })
    await service.untilSaid(/was not taken over: fault injected/)
    await until(async () => fleet.broken.length === 10) // in the store they would stay open for ever
    await Fleet.connect({ raw: service.port, clients: { raw: 1 } })
  })
})
