import { expect, it } from 'vitest'
import { Fleet } from '../helpers/fleet.js'
import { until } from '../helpers/process.js'
import { describeSystemd, Service } from '../helpers/systemd-service.js'

/** What runs as user@.service elsewhere, for nobody. */
const MANAGER = `[Service]
User=nobody
Group=nogroup
Delegate=yes
RuntimeDirectory=user/65534
RuntimeDirectoryMode=0700
Environment=XDG_RUNTIME_DIR=/run/user/65534 HOME=/srv SYSTEMD_UNIT_PATH=/run/box/user SYSTEMD_GENERATOR_PATH=/nonexistent
ExecStart=/lib/systemd/systemd --user --unit=default.target
`
const AS_NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'env', 'XDG_RUNTIME_DIR=/run/user/65534']

describeSystemd(252, 'a user unit', (usr) => {
  it('keeps every connection through systemctl --user reload and restart', async () => {
    const service = await Service.installed({ usr })
    const { box } = service
    await box.install('manager.service', MANAGER)
    await box.must(
      'sh',
      '-ec',
      `cp -r /run/box/units /run/box/user
      touch /run/box/out && chown nobody /run/box/out
      chmod 755 /run/box && chmod -R a+rX /run/box/user`,
    )
    await box.must('systemctl', 'start', 'manager')
    await until(async () => (await box.run('test', '-S', '/run/user/65534/systemd/private')).code === 0)
    const show = async (property: string) =>
      (await box.must(...AS_NOBODY, 'systemctl', '--user', 'show', '--value', '-p', property, 'app')).trim()
    await box.must(...AS_NOBODY, 'systemctl', '--user', 'start', 'app')
    const fleet = await Fleet.connect({ raw: service.port, clients: { raw: 10 } })
    for (const command of ['reload', 'restart', 'reload']) {
      await until(async () => Number(await show('NFileDescriptorStore')) > 0)
      await box.must(...AS_NOBODY, 'systemctl', '--user', command, 'app')
      await fleet.settle()
      expect(fleet.broken, service.output).toEqual([])
    }
    await until(async () => (await show('StatusText')) === 'serving, generation 4')
  })
})
