import { expect, it } from 'vitest'
import { Fleet } from '../helpers/fleet.js'
import { describeSystemd, Service, until } from '../helpers/systemd-service.js'

describeSystemd(252, 'the unit of examples/systemd, as it stands,', (usr) => {
  it('keeps every connection through reload and restart', async () => {
    const service = await Service.installed({ usr })
    await service.begin()
    await keepsAll(service)
  })

  it('keeps them with its socket unit, which listens', async () => {
    const service = await Service.installed({ usr })
    await service.installSocket()
    await service.begin('app.socket')
    await keepsAll(service)
  })

  it('keeps them as a user without any right', async () => {
    const service = await Service.installed({ usr, more: 'User=nobody\nGroup=nogroup\nNoNewPrivileges=yes\nPrivateTmp=yes' })
    await service.begin()
    await keepsAll(service)
    expect(await service.box.must('stat', '-c', '%U', `/proc/${await service.mainPid()}`)).toBe('nobody\n')
  })

  it('keeps them as a user that exists only while it runs', async () => {
    const service = await Service.installed({ usr, more: 'DynamicUser=yes' })
    await service.begin()
    await keepsAll(service)
  })

  it('keeps them where everything is read-only but its runtime directory', async () => {
    const service = await Service.installed({ usr, more: 'User=nobody\nProtectSystem=strict\nRuntimeDirectory=app' })
    await service.begin()
    await keepsAll(service)
    expect(await service.box.must('ls', '-A', '/run/app/tsunagi')).toMatch(/\.sock\n/)
  })
})

describeSystemd(254, 'the unit of examples/systemd with Type=notify-reload, as it stands,', (usr) => {
  it('keeps every connection through reload and restart', async () => {
    const service = await Service.installed({ usr, unit: 'app-notify-reload.service' })
    await service.begin()
    await keepsAll(service)
  })
})

async function keepsAll(service: Service): Promise<void> {
  const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 10 } })
  for (const [command, generation] of [
    ['reload', 2],
    ['restart', 3],
    ['reload', 4],
  ] as const) {
    await service.untilStoring()
    expect(await service.box.systemctl(command, 'app'), service.output).toMatchObject({ code: 0, err: '' })
    await until(async () => (await service.status()) === `serving, generation ${generation}`)
    await fleet.settle()
    expect(fleet.broken, service.output).toEqual([])
  }
}
