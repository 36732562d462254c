import { expect, it } from 'vitest'
import { Fleet } from '../helpers/fleet.js'
import { until } from '../helpers/process.js'
import { describeSystemd, Service } from '../helpers/systemd-service.js'

describeSystemd(252, 'a service', (usr, version) => {
  it('keeps every connection through systemctl reload, again and again, as one service', async () => {
    const service = await Service.start({ usr })
    expect(await service.box.version()).toBeGreaterThanOrEqual(version)
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 20 } })
    let main = await service.mainPid()
    for (let generation = 2; generation <= 4; generation++) {
      expect(await service.box.systemctl('reload', 'app')).toMatchObject({ code: 0, err: '' })
      await until(async () => (await service.status()) === `serving, generation ${generation}`)
      const pid = await service.mainPid()
      expect(pid).not.toBe(main)
      main = pid
      await fleet.settle()
    }
    expect(fleet.broken).toEqual([])
    expect(await service.box.show('app', 'NRestarts')).toBe('0')
    expect(await service.box.show('app', 'ActiveState')).toBe('active')
  })

  it('keeps every connection through systemctl restart by the descriptor store', async () => {
    const service = await Service.start({ usr, store: 16 })
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 20 } })
    for (let restart = 1; restart <= 3; restart++) {
      await service.untilStoring()
      expect(await service.box.systemctl('restart', 'app')).toMatchObject({ code: 0, err: '' })
      await fleet.settle()
    }
    expect(fleet.broken).toEqual([])
    await service.untilSaid(/took 20 connections over from the systemd/)
  })

  it('can be restarted after a reload, and reloaded after a restart', async () => {
    const service = await Service.start({ usr, store: 16 })
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 10 } })
    for (const command of ['reload', 'restart', 'reload', 'restart']) {
      await service.untilStoring()
      expect(await service.box.systemctl(command, 'app')).toMatchObject({ code: 0 })
      await fleet.settle()
    }
    expect(fleet.broken).toEqual([])
  })

  it('says once that the store is off, and a restart ends the connections as ever', async () => {
    const service = await Service.start({ usr })
    await service.untilSaid(/descriptor store is off or full/)
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 3 } })
    await service.box.systemctl('restart', 'app')
    await until(async () => fleet.broken.length === 3)
    await service.box.systemctl('reload', 'app')
    expect(service.output.match(/descriptor store is off/g)).toHaveLength(2) // once for each service, not for its later generations
  })

  it('falls back to what else there is where the store is too small, and says so where there is nothing', async () => {
    const service = await Service.start({ usr, store: 2, more: 'CapabilityBoundingSet=~CAP_NET_ADMIN' })
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 3 } })
    await service.untilStoring()
    await service.box.systemctl('restart', 'app')
    await service.untilSaid(/systemd: its descriptor store is full/)
    await until(async () => fleet.broken.length === 3)
    expect(await service.box.show('app', 'ActiveState')).toBe('active')
    await Fleet.connect({ raw: service.port, clients: { raw: 1 } })
  })

  it('whose store is too small leaves its connections as data, and its listener to systemd', async () => {
    const service = await Service.start({ usr, store: 2 })
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 3 } })
    await service.untilStoring()
    await service.box.systemctl('restart', 'app')
    await service.untilSaid(/took 3 connections over from the snapshot/)
    await fleet.settle()
    expect(fleet.broken).toEqual([])
  })

  it('really stops, and its clients are told', async () => {
    const service = await Service.start({ usr, store: 16 })
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 5 } })
    await service.untilStoring()
    expect(await service.box.systemctl('stop', 'app')).toMatchObject({ code: 0 })
    await until(async () => fleet.broken.length === 5)
    expect(await service.box.show('app', 'ActiveState')).toBe('inactive')
    expect(await service.box.show('app', 'Result')).toBe('success')
    expect(await service.box.show('app', 'NFileDescriptorStore')).toBe('0')
    expect(await service.box.systemctl('start', 'app')).toMatchObject({ code: 0 })
    await Fleet.connect({ raw: service.port, clients: { raw: 1 } })
  })

  it('keeps its listener through kill -9: new connections wait for the next process', async () => {
    const service = await Service.start({ usr, store: 16, more: 'Restart=always\nRestartSec=300ms' })
    await service.untilStoring()
    const main = await service.mainPid()
    await service.box.systemctl('kill', '-s', 'SIGKILL', 'app')
    await until(async () => !(await service.isListed(main)))
    await Fleet.connect({ raw: service.port, clients: { raw: 3 } }) // nobody serves in this moment, and none is refused
    expect(await service.mainPid()).not.toBe(main)
  })

  it('goes on with the old version where the new one does not come up in a reload, and systemctl reload fails', async () => {
    const service = await Service.start({ usr })
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 5 } })
    const main = await service.mainPid()
    service.deploy('throw new Error("no database")')
    expect((await service.box.systemctl('reload', 'app')).code).not.toBe(0)
    await fleet.settle()
    expect(fleet.broken).toEqual([])
    expect(await service.mainPid()).toBe(main)
    expect(await service.box.show('app', 'ActiveState')).toBe('active')
    service.deploy()
    expect(await service.box.systemctl('reload', 'app')).toMatchObject({ code: 0 })
    await fleet.settle()
    expect(fleet.broken).toEqual([])
  })

  it('keeps what is held while a version that does not come up is restarted, until a good one comes', async () => {
    const service = await Service.start({ usr, store: 16, more: 'Restart=always\nRestartSec=200ms' })
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 5 } })
    await service.untilStoring()
    service.deploy('throw new Error("no database")')
    await service.box.systemctl('restart', 'app', '--no-block')
    await service.untilSaid(/no database/)
    service.deploy()
    await fleet.settle()
    expect(fleet.broken).toEqual([])
  })

  it('is given its listener by a socket unit, and keeps its connections', async () => {
    const service = await Service.start({ usr, store: 16, isActivated: true })
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 5 } }) // the first of them starts it
    for (const command of ['reload', 'restart']) {
      await service.untilStoring()
      expect(await service.box.systemctl(command, 'app')).toMatchObject({ code: 0 })
      await fleet.settle()
    }
    expect(fleet.broken).toEqual([])
  })
})

describeSystemd(254, 'a service with Type=notify-reload', (usr) => {
  it('is reloaded by SIGHUP, and systemctl reload waits until the new version serves', async () => {
    const service = await Service.start({ usr, type: 'notify-reload' })
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 10 } })
    for (let generation = 2; generation <= 4; generation++) {
      const main = await service.mainPid()
      expect(await service.box.systemctl('reload', 'app')).toMatchObject({ code: 0, err: '' })
      expect(await service.mainPid()).not.toBe(main)
      await until(async () => (await service.status()) === `serving, generation ${generation}`)
      await fleet.settle()
    }
    expect(fleet.broken).toEqual([])
  })
})

describeSystemd(254, 'a service with FileDescriptorStorePreserve=yes', (usr) => {
  it('keeps its connections while it is stopped: they go on when it is started', async () => {
    const service = await Service.start({ usr, store: 16, more: 'FileDescriptorStorePreserve=yes' })
    await service.box.install('default.target.d/app.conf', '[Unit]\nWants=app.service') // as if enabled: systemd forgets what nothing refers to
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 10 } })
    await service.untilStoring()
    for (let stop = 1; stop <= 2; stop++) {
      expect(await service.box.systemctl('stop', 'app')).toMatchObject({ code: 0 })
      expect(await service.box.show('app', 'SubState')).toBe('dead-resources-pinned')
      const late = Fleet.connect({ raw: service.port, clients: { raw: 1 } }) // waits in the backlog
      expect(await service.box.systemctl('start', 'app')).toMatchObject({ code: 0 })
      await fleet.settle()
      expect((await late).broken).toEqual([])
      await service.untilStoring()
    }
    expect(fleet.broken).toEqual([])
    await service.untilSaid(/took 1[0-2] connections over from the systemd/)
  })

  it('ends them where systemd is told to let go', async () => {
    const service = await Service.start({ usr, store: 16, more: 'FileDescriptorStorePreserve=yes' })
    await service.box.install('default.target.d/app.conf', '[Unit]\nWants=app.service')
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 3 } })
    await service.untilStoring()
    await service.box.systemctl('stop', 'app')
    await service.box.install('default.target.d/app.conf', '')
    await until(async () => fleet.broken.length === 3)
  })
})
