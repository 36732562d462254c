import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describePrivileged, type Privilege } from './privileged.js'
import { fixture, freePort } from './process.js'
import { SystemdBox } from './systemd-box.js'

/** The tests of a service of systemd: with those versions that run in CI, or with the one that TSUNAGI_SYSTEMD names (`npm run test:systemd`). */
export function describeSystemd(from: number, title: string, body: (usr: string, version: number) => void): void {
  for (const version of VERSIONS) {
    if (version < from) continue
    const [privilege, usr]: [Privilege, string] =
      version === 252
        ? ['systemd', '']
        : [`systemd-${version}` as Privilege, join(root, 'node_modules', '.cache', `systemd-${version}`, 'usr')]
    describePrivileged(privilege, `${title} (systemd ${version})`, () => body(usr, version))
  }
}

export interface ServiceOptions {
  usr: string
  /** FileDescriptorStoreMax. */
  store?: number
  type?: 'notify' | 'notify-reload'
  /** Port of its HTTP server; without it there is none. */
  http?: number
  /** Lines for the section [Service]. */
  more?: string
  /** Options of `tsunagi reload`. */
  reload?: string
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

  static async start({
    usr,
    store = 0,
    type = 'notify',
    http = 0,
    more = '',
    reload = '',
    isActivated = false,
  }: ServiceOptions): Promise<Service> {
    const box = await SystemdBox.boot(usr)
    const service = new Service(box, await freePort(), join(box.directory, 'server.mjs'))
    service.deploy()
    service.set({})
    const example = (name: string) => readFileSync(join(root, 'examples', 'systemd', name), 'utf8')
    await box.install('app.service', example(type === 'notify' ? 'app.service' : 'app-notify-reload.service'))
    await box.install(
      'app.service.d/test.conf',
      `[Unit]
StartLimitIntervalSec=0
[Service]
FileDescriptorStoreMax=${store}
WorkingDirectory=${box.directory}
Environment=TSUNAGI_DIR=/run/tsunagi PORT=${service.port} HTTP_PORT=${http || ''}
ExecStart=
ExecStart=${process.execPath} --import ./environment.mjs --import ${join(root, 'dist', 'register.js')} server.mjs
${type === 'notify' ? `ExecReload=\nExecReload=${process.execPath} ${join(root, 'dist', 'cli.js')} reload ${reload} --pid $MAINPID` : ''}
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

  /** The environment of every process of it that is started from now on. */
  set(environment: NodeJS.ProcessEnv): void {
    writeFileSync(join(this.box.directory, 'environment.mjs'), `Object.assign(process.env, ${JSON.stringify(environment)})`)
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

  /** How often systemd has started it by itself. */
  async restarts(): Promise<number> {
    return Number(await this.box.show('app', 'NRestarts'))
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
/** That of Debian 12, installed, and one that is unpacked: see test/systemd. */
const VERSIONS = process.env.TSUNAGI_SYSTEMD ? [Number(process.env.TSUNAGI_SYSTEMD)] : [252, 254]
