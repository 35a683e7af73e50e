"""Which causal LMs of Transformers can carry soft prompts: tiny random models of every type, checked one by one."""
