import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { fixture, freePort } from './process.js'
import { SystemdBox } from './systemd-box.js'

export interface ServiceOptions {
  usr: string
  store?: number
  type?: 'notify' | 'notify-reload'
  /** Port of its HTTP server; without it there is none. */
  http?: number
  /** Lines for the unit. */
  more?: string
  isActivated?: boolean
}

/** The app.service of examples/systemd in a box of its own, running what a Fleet talks to; its program can be written over. */
export class Service {
  readonly box: SystemdBox
  readonly port: number
  readonly program: string

  private constructor(box: SystemdBox, port: number, program: string) {
    this.box = box
    this.port = port
    this.program = program
  }

  static async start({ usr, store = 0, type = 'notify', http = 0, more = '', isActivated = false }: ServiceOptions): Promise<Service> {
    const box = await SystemdBox.boot(usr)
    const service = new Service(box, await freePort(), join(box.directory, 'server.mjs'))
    service.deploy()
    const example = (name: string) => readFileSync(join(root, 'examples', 'systemd', name), 'utf8')
    await box.install('app.service', example(type === 'notify' ? 'app.service' : 'app-notify-reload.service'))
    await box.install(
      'app.service.d/test.conf',
      `[Service]
FileDescriptorStoreMax=${store}
WorkingDirectory=${box.directory}
Environment=TSUNAGI_DIR=/run/tsunagi PORT=${service.port} HTTP_PORT=${http || ''}
ExecStart=
ExecStart=${process.execPath} --import ${join(root, 'dist', 'register.js')} server.mjs
${type === 'notify' ? `ExecReload=\nExecReload=${process.execPath} ${join(root, 'dist', 'cli.js')} reload --pid $MAINPID` : ''}
StandardOutput=append:${box.directory}/out
StandardError=append:${box.directory}/out
${more}`,
    )
    if (isActivated) await box.install('app.socket', example('app.socket').replaceAll('8080', String(service.port)))
    const { code, err } = await box.systemctl('start', isActivated ? 'app.socket' : 'app')
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

  isListed(pid: number): Promise<boolean> {
    return this.box.run('kill', '-0', String(pid)).then(({ code }) => code === 0)
  }

  /** Its listener is in the store. */
  async untilStoring(): Promise<void> {
    await until(async () => Number(await this.box.show('app', 'NFileDescriptorStore')) > 0)
  }

  status(): Promise<string> {
    return this.box.show('app', 'StatusText')
  }
}

/** Asks again and again: systemd tells nobody what it does. */
export async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20))
}

const root = fileURLToPath(new URL('../..', import.meta.url))
const FLEET = fixture('plain/fleet.mjs')
