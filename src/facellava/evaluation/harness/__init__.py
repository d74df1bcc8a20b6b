"""Other people's evaluation harnesses: our benchmarks and our models in lmms-eval, our benchmarks in VLMEvalKit."""
