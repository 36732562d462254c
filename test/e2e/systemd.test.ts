import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { Fleet } from '../helpers/fleet.js'
import { describePrivileged } from '../helpers/privileged.js'
import { freePort } from '../helpers/process.js'
import { SystemdBox } from '../helpers/systemd-box.js'

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const FLEET = join(root, 'test', 'fixtures', 'plain', 'fleet.mjs')

describePrivileged('systemd', 'a service of systemd', () => {
  it('keeps every connection through systemctl reload, again and again, as one service', async () => {
    const service = await Service.start()
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
    const service = await Service.start({ store: 16 })
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 20 } })
    for (let restart = 1; restart <= 3; restart++) {
      expect(await service.box.systemctl('restart', 'app')).toMatchObject({ code: 0, err: '' })
      await fleet.settle()
    }
    expect(fleet.broken).toEqual([])
    await service.untilSaid(/took 20 connections over from the systemd/)
  })
})

interface ServiceOptions {
  store?: number
  more?: string
  program?: string
}

/** app.service in a box of its own. */
class Service {
  readonly box: SystemdBox
  readonly port: number
  readonly program: string

  private constructor(box: SystemdBox, port: number, program: string) {
    this.box = box
    this.port = port
    this.program = program
  }

  static async start({ store = 0, more = '' }: ServiceOptions = {}): Promise<Service> {
    const box = await SystemdBox.boot()
    const service = new Service(box, await freePort(), join(box.directory, 'server.mjs'))
    service.deploy()
    await box.install(
      'app.service',
      `[Service]
Type=notify
NotifyAccess=all
FileDescriptorStoreMax=${store}
Environment=TSUNAGI_DIR=/run/tsunagi TSUNAGI_MOVE=all PORT=${service.port}
ExecStart=${process.execPath} --import ${join(root, 'dist', 'register.js')} ${service.program}
ExecReload=${process.execPath} ${join(root, 'dist', 'cli.js')} reload --pid $MAINPID
StandardOutput=append:${box.directory}/out
StandardError=append:${box.directory}/out
${more}`,
    )
    const { code, err } = await box.systemctl('start', 'app')
    if (code !== 0) throw new Error(`${err}\n${service.output}`)
    return service
  }

  deploy(text = `import ${JSON.stringify(FLEET)}`): void {
    writeFileSync(this.program, text)
  }

  get output(): string {
    const file = join(this.box.directory, 'out')
    return existsSync(file) ? readFileSync(file, 'utf8') : ''
  }

  async untilSaid(text: RegExp): Promise<void> {
    await until(async () => text.test(this.output))
  }

  async mainPid(): Promise<number> {
    return Number(await this.box.show('app', 'MainPID'))
  }

  status(): Promise<string> {
    return this.box.show('app', 'StatusText')
  }
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20))
}
