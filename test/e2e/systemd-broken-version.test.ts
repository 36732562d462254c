import { expect, it } from 'vitest'
import { Fleet } from '../helpers/fleet.js'
import { fixture, freePort, until } from '../helpers/process.js'
import { describeSystemd, Service } from '../helpers/systemd-service.js'

const FLEET = `import ${JSON.stringify(fixture('plain/fleet.mjs'))}`
const UNWELL = `import { Server } from 'node:http'
  const { emit } = Server.prototype
  Server.prototype.emit = function (event, request, response) {
    if (event !== 'request' || request.url !== '/healthz') return Reflect.apply(emit, this, arguments)
    response.statusCode = 503
    response.end()
    return true
  }`

/** What becomes of a new version, how it looks, and what is said about it. */
const BROKEN: readonly { what: string; program?: string; environment?: NodeJS.ProcessEnv; says: RegExp }[] = [
  { what: 'throws at boot', program: 'throw new Error("no database")', says: /no database/ },
  { what: 'is killed at boot', program: 'process.kill(process.pid, "SIGKILL")', says: /it ended/ },
  {
    what: 'fails its health check',
    program: `${UNWELL}\n${FLEET}`,
    environment: { TSUNAGI_HEALTH: '/healthz', TSUNAGI_HEALTH_TIMEOUT: '1' },
    says: /answered with 503/,
  },
  { what: 'dies before it is ready', environment: { TSUNAGI_FAULT: 'successor-before-ready=kill' }, says: /did not take over/ },
  {
    what: 'dies before it has received anything',
    environment: { TSUNAGI_FAULT: 'successor-before-receive=kill' },
    says: /did not take over/,
  },
  { what: 'dies before the commit', environment: { TSUNAGI_FAULT: 'successor-after-ack=kill' }, says: /did not take over/ },
]
const HANGS = 'console.log("hangs")\nsetInterval(() => {}, 1000)\nawait new Promise(() => {})'
const CLIENTS = { raw: 5, 'keep-alive': 5, websocket: 5 }

describeSystemd(252, 'systemctl reload', (usr) => {
  it.each(BROKEN)('fails and costs nothing where the new version $what', async ({ program = FLEET, environment = {}, says }) => {
    const { service, fleet, main } = await serving({ usr })
    service.deploy(program)
    service.set(environment)
    expect((await service.box.systemctl('reload', 'app')).code).not.toBe(0)
    expect(service.output).toMatch(says)
    await goesOn(service, fleet, main)
  })

  it('fails and costs nothing where the new version hangs at boot', async () => {
    const { service, fleet, main } = await serving({ usr, reload: '--timeout 2' })
    service.deploy(HANGS)
    expect((await service.box.systemctl('reload', 'app')).code).not.toBe(0)
    expect(service.output).toMatch(/did not serve within 2000 ms/)
    await goesOn(service, fleet, main)
  })
})

describeSystemd(254, 'systemctl reload of Type=notify-reload', (usr) => {
  it.each(BROKEN)(
    'costs nothing where the new version $what, and the status says so',
    async ({ program = FLEET, environment = {}, says }) => {
      const { service, fleet, main } = await serving({ usr, type: 'notify-reload' })
      service.deploy(program)
      service.set(environment)
      expect(await service.box.systemctl('reload', 'app')).toMatchObject({ code: 0 }) // systemd knows no reload that fails
      await service.untilSaid(says)
      expect(await service.status()).toMatch(/^still generation 1: The new version did not take over/)
      await goesOn(service, fleet, main)
    },
  )

  it('costs nothing where the new version hangs at boot, and is over once that has ended', async () => {
    const { service, fleet, main } = await serving({ usr, type: 'notify-reload' })
    service.deploy(HANGS)
    const reload = service.box.systemctl('reload', 'app')
    await service.untilSaid(/hangs/)
    await fleet.settle()
    expect(await service.box.show('app', 'ActiveState')).toBe('reloading')
    await service.box.run('sh', '-c', `kill $(grep -vx ${main} /sys/fs/cgroup/system.slice/app.service/cgroup.procs)`)
    await reload
    await goesOn(service, fleet, main)
  })
})

async function serving(options: { usr: string; type?: 'notify-reload'; reload?: string }) {
  const http = await freePort()
  const service = await Service.start({ ...options, http })
  await service.untilSaid(/http listening/)
  const fleet = await Fleet.connect({ raw: service.port, http, clients: CLIENTS })
  return { service, fleet, main: await service.mainPid() }
}

/** The old version serves as if nothing had been, and a good one can take over from it. */
async function goesOn(service: Service, fleet: Fleet, main: number): Promise<void> {
  await fleet.settle()
  expect(fleet.broken).toEqual([])
  expect(await service.mainPid()).toBe(main)
  expect(await service.box.show('app', 'ActiveState')).toBe('active')
  expect(await service.restarts()).toBe(0)
  service.deploy()
  service.set({})
  expect(await service.box.systemctl('reload', 'app')).toMatchObject({ code: 0 })
  await until(async () => (await service.status()) === 'serving, generation 2')
  expect(await service.mainPid()).not.toBe(main)
  await fleet.settle()
  expect(fleet.broken).toEqual([])
}
