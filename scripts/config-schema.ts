import { stringify } from "yaml";
import { z } from "zod";
import { dataOptions } from "../src/bridge/options-check.ts";

const HEADER = `\
 The options of BridgeMedia that plain data can express, as a fragment of JSON Schema (draft-07), for a bridge's own
 configuration schema. Written by \`npm run config-schema\` from src/bridge/options-check.ts; do not edit it.

 A bridge includes it as one property of its schema, and hands what its users wrote there to the component:

     const schema = yaml.load(fs.readFileSync("config.schema.yaml", "utf8"));
     schema.properties.media = yaml.load(
         fs.readFileSync(require.resolve("matrix-bridge-media/config.schema.yaml"), "utf8"),
     );
     …
     const media = new BridgeMedia(bridge, { ...config.media, logger, connectors });
`;

/** The text of `config.schema.yaml`. */
export function configSchema(): string {
    const { $schema: _, ...fragment } = z.toJSONSchema(dataOptions, {
        target: "draft-7",
        io: "input",
        override({ jsonSchema }) {
            // What zod says about every integer, and nobody needs to be told.
            if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
        },
    });
    const comment = HEADER.trimEnd().replace(/^/gm, "#");
    return `${comment}\n\n${stringify(fragment, { indent: 4, lineWidth: 120 })}`;
}
