"""What transformers and PEFT answer, greedily in float32: `adapter_oracle.py MODEL TEXT TOKENS [ADAPTER]`."""

import json
import sys

import torch
import transformers
from peft import PeftModel


def main() -> None:
    folder, text, tokens, *adapter = sys.argv[1:]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter[0], torch_dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    made = model.generate(**prompt, max_new_tokens=int(tokens), do_sample=False)
    said = tokenizer.decode(made[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    sys.stdout.write(json.dumps({"text": said}))


if __name__ == "__main__":
    main()
