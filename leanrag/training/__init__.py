"""Training of small readers: from a folder and questions to an adapter that `leanrag.open` takes. Needs the extra `train`.

The modules, in the order of data flow: `examples` (questions, divided without leaks), `sources` (the folder), `teacher` (a larger
model makes questions, answers and logits), `rows` and `orders` (prompts as in use, with their right replies), `encoding` (tokens),
`base` and `lora` (the model in torch, and its adapter), `losses`, `options`, `loop`, `checkpoint` and `workers` (the training
itself), `pruning` (fewer layers), `record` (what was learnt and measured), and `running` (`train`, which does all of this).
"""

from leanrag.training.examples import Example as Example
from leanrag.training.examples import read_examples as read_examples
from leanrag.training.options import TrainingOptions as TrainingOptions
from leanrag.training.record import TrainingRecord as TrainingRecord
from leanrag.training.record import load_record as load_record
from leanrag.training.running import TrainingReport as TrainingReport
from leanrag.training.running import train as train
from leanrag.training.teacher import label_examples as label_examples
from leanrag.training.teacher import make_questions as make_questions
