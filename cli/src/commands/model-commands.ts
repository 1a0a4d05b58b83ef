import type { api, InputOf } from '@orbyte/protocol'
import type { Command } from 'commander'
import type { Cli } from '../cli.ts'
import { examples } from '../arguments.ts'
import { bytes } from '../format.ts'

type TaskType = InputOf<typeof api.models.list>['task_type']

export function addModelCommands(program: Command, cli: Cli) {
  const models = program.command('models').summary('the models that tasks can ask for')
  examples(models, ['models', 'models list --task-type image_generation', 'run text "Once" --model tinylm'])
  models
    .command('list', { isDefault: true })
    .summary('the catalogue')
    .option('--task-type <type>', 'that can do this type of task')
    .action(async ({ taskType }: { taskType?: TaskType }) =>
      cli.showList(await cli.client.models.list({ task_type: taskType }), {
        empty: taskType
          ? `No model of the catalogue does ${taskType}. All of them: orbyte models`
          : 'The catalogue is empty.',
        columns: [
          { title: 'name', value: ({ name }) => name },
          { title: 'title', value: ({ title }) => title, shrinks: true },
          { title: 'does', value: ({ task_types }) => task_types.join(', '), shrinks: true },
          { title: 'vram', value: ({ vram_gb }) => `${vram_gb} GiB`, right: true },
          {
            title: 'size',
            value: ({ files }) => bytes(files.reduce((sum, { size_bytes }) => sum + size_bytes, 0)),
            right: true,
          },
          { title: 'gpus', value: ({ gpus_connected }) => gpus_connected, right: true },
          { title: 'licence', value: ({ licence }) => licence, shrinks: true },
        ],
      }),
    )
}
