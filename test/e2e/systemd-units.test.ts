import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { expect, it, onTestFinished } from 'vitest'
import { Fleet } from '../helpers/fleet.js'
import { fixture, until } from '../helpers/process.js'
import { describeSystemd, exampleUnit, Service } from '../helpers/systemd-service.js'

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
    const service = await Service.installed({
      usr,
      more: 'DynamicUser=yes\nRuntimeDirectory=app\nEnvironment=TSUNAGI_DIR=/run/app/tsunagi',
    })
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

describeSystemd(252, 'a user without any right', (usr) => {
  it('leaves more connections than half its limit of descriptors in the store, again and again', async () => {
    const service = await Service.installed({ usr, more: 'User=nobody\nGroup=nogroup\nPrivateTmp=yes\nLimitNOFILE=1000' })
    await service.begin()
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 600 }, rest: 1_000 })
    for (const generation of [2, 3]) {
      await service.untilStoring()
      expect(await service.box.systemctl('restart', 'app'), service.output).toMatchObject({ code: 0 })
      await until(async () => (await service.status()) === `serving, generation ${generation}`)
      await fleet.settle()
      expect(fleet.broken, service.output).toEqual([])
    }
  })

  it('whose processes have as many under way as it may have is told so, and its connections drain', async () => {
    const service = await Service.installed({ usr, more: 'User=nobody\nGroup=nogroup\nPrivateTmp=yes\nLimitNOFILE=700' })
    await service.begin()
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 3 } })
    await service.untilStoring()
    await descriptorsUnderWay()
    expect(await service.box.systemctl('restart', 'app')).toMatchObject({ code: 0 })
    await service.untilSaid(/systemd: processes of uid 65534 have too many descriptors under way .*LimitNOFILE=.*they drain/)
    await until(async () => fleet.broken.length === 3)
    await service.untilSaid(/descriptor store.*ETOOMANYREFS/) // the next process serves all the same
    await Fleet.connect({ raw: service.port, clients: { raw: 1 } })
  })
})

describeSystemd(252, 'the unit of examples/repair-helper, as it stands,', (usr) => {
  it('saves and restores the connections of a server without any right', async () => {
    const service = await Service.installed({
      usr,
      more: `User=www-data
RuntimeDirectory=app
RuntimeDirectoryPreserve=restart
Environment=TSUNAGI_HELPER=/run/tsunagi-repair/socket TSUNAGI_ON_EXIT=snapshot TSUNAGI_DIR=/run/app/tsunagi
[Unit]
After=tsunagi-repair.service`,
    })
    const unit = exampleUnit('tsunagi-repair.service', 'repair-helper').replace('linux-x64', `linux-${process.arch}`)
    await service.box.install('tsunagi-repair.service', unit)
    await service.box.must('systemctl', 'start', 'tsunagi-repair')
    await until(async () => (await service.box.run('test', '-S', '/run/tsunagi-repair/socket')).code === 0)
    await service.begin()
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 10 } })
    expect(await service.box.systemctl('restart', 'app')).toMatchObject({ code: 0 })
    await service.untilSaid(/took 10 connections over from the snapshot/)
    await fleet.settle()
    expect(fleet.broken, service.output).toEqual([])
    const helper = await service.box.show('tsunagi-repair', 'MainPID')
    expect(await service.box.must('stat', '-c', '%U', `/proc/${helper}`)).toBe('www-data\n')
    expect(await service.box.must('grep', 'CapEff', `/proc/${helper}/status`)).toMatch(/0000000000001000\n/) // CAP_NET_ADMIN, capabilities(7)
    const server = await service.mainPid()
    expect(await service.box.must('grep', 'CapEff', `/proc/${server}/status`)).toMatch(/0000000000000000\n/)
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

/** 750 of nobody's, until the test is over. */
async function descriptorsUnderWay(): Promise<void> {
  const child = spawn('python3', ['-c', readFileSync(fixture('hog.py'), 'utf8')], { uid: 65534, gid: 65534 })
  onTestFinished(() => void child.kill('SIGKILL'))
  await once(child.stdout, 'data')
}
