import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PackageCopy } from './package-copy.js'
import { describePrivileged, type Privilege } from './privileged.js'
import { fixture, freePort, until } from './process.js'
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
    await box.install('app.service', exampleUnit(type === 'notify' ? 'app.service' : 'app-notify-reload.service'))
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
    if (isActivated) await service.installSocket()
    await service.begin(isActivated ? 'app.socket' : 'app')
    return service
  }

  /**
   * A unit of examples/ as it stands, with the package installed where it says, below /srv/app. `more` are lines for its section [Service]. Its program echoes, and
   * needs nothing but Node.
   */
  static async installed({ usr, unit = 'app.service', more = '' }: { usr: string; unit?: string; more?: string }): Promise<Service> {
    const box = await SystemdBox.boot(usr)
    const { directory } = new PackageCopy()
    chmodSync(directory, 0o755)
    mkdirSync(join(directory, 'node_modules', '.bin'))
    symlinkSync('../tsunagi/dist/cli.js', join(directory, 'node_modules', '.bin', 'tsunagi'))
    // What systemd makes in /tmp for PrivateTmp= would be left there when the box is ended.
    await box.must(
      'sh',
      '-ec',
      `mount -t tmpfs -o mode=755 tmpfs /srv
      mkdir /srv/app
      mount --bind ${directory} /srv/app
      for folder in /tmp /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs $folder; done`,
    )
    const service = new Service(box, await freePort(), join(directory, 'server.js'))
    service.deploy(ECHO)
    await box.install('app.service', exampleUnit(unit))
    await box.install(
      'app.service.d/test.conf',
      `[Unit]
StartLimitIntervalSec=0
[Service]
Environment=PORT=${service.port}
StandardOutput=append:/run/box/out
StandardError=append:/run/box/out
${more}`,
    )
    return service
  }

  async installSocket(): Promise<void> {
    await this.box.install('app.socket', exampleUnit('app.socket').replaceAll('8080', String(this.port)))
  }

  /** Resolves once it serves. */
  async begin(unit = 'app'): Promise<void> {
    const { code, err } = await this.box.systemctl('start', unit)
    if (code !== 0) throw new Error(`${err}\n${this.output}`)
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

export function exampleUnit(name: string, folder = 'systemd'): string {
  return readFileSync(join(root, 'examples', folder, name), 'utf8').replaceAll('/usr/bin/node', process.execPath)
}

const root = fileURLToPath(new URL('../..', import.meta.url))
const FLEET = fixture('plain/fleet.mjs')
const ECHO = `
  const server = require('node:net').createServer((socket) => socket.pipe(socket).on('error', () => {}))
  server.listen(Number(process.env.PORT), '127.0.0.1')`
/** That of Debian 12, installed, and one that is unpacked: see test/systemd. */
const VERSIONS = process.env.TSUNAGI_SYSTEMD ? [Number(process.env.TSUNAGI_SYSTEMD)] : [252, 254]
